// Accuracy against labels, drawn as SVG.

const LEFT = 40, RIGHT = 8, TOP = 8, BOTTOM = 22;

/** Draw points [{labels, value, low, high}] into an element. */
export function draw(element, points) {
  const width = Math.max(element.clientWidth, 160), height = 130;
  const most = Math.max(...points.map((point) => point.labels), 1);
  const x = (labels) => LEFT + (labels / most) * (width - LEFT - RIGHT);
  const y = (share) => height - BOTTOM - share * (height - BOTTOM - TOP);
  const svg = make("svg", { width, height, role: "img", "aria-label": told(points) });
  for (const share of [0, 0.5, 1]) {
    svg.append(make("line", { class: "rule", x1: LEFT, x2: width - RIGHT, y1: y(share), y2: y(share) }));
    svg.append(text(`${share * 100} %`, { x: LEFT - 6, y: y(share) + 4, "text-anchor": "end" }));
  }
  svg.append(text("0", { x: LEFT, y: height - 4 }));
  svg.append(text(`${most} labels`, { x: width - RIGHT, y: height - 4, "text-anchor": "end" }));
  const high = points.map((point) => `${x(point.labels)},${y(point.high)}`);
  const low = points.map((point) => `${x(point.labels)},${y(point.low)}`).reverse();
  svg.append(make("polygon", { class: "band", points: [...high, ...low].join(" ") }));
  const line = points.map((point) => `${x(point.labels)},${y(point.value)}`).join(" ");
  svg.append(make("polyline", { class: "line", points: line }));
  for (const point of points.slice(-1)) {
    const at = x(point.labels);
    svg.append(make("line", { class: "bar", x1: at, x2: at, y1: y(point.low), y2: y(point.high) }));
    svg.append(make("circle", { class: "dot", cx: at, cy: y(point.value), r: 3.5 }));
  }
  element.replaceChildren(svg);
}

function told(points) {
  const say = ({ labels, value }) => `${Math.round(value * 100)} percent right with ${labels} labels`;
  if (points.length === 1) return `Estimate: ${say(points[0])}`;
  return `Estimates from ${say(points[0])} to ${say(points.at(-1))}`;
}

function make(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function text(content, attributes) {
  const element = make("text", attributes);
  element.textContent = content;
  return element;
}
