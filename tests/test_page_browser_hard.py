"""The labelling page in a browser where it is hard: lost connections, hostile names, many photos, no mouse."""

import json

from browser_helpers import Keys, names_of

pytest_plugins = ("browser_helpers",)

HOSTILE = "<img src=x onerror=document.title='pwned'>"


def test_no_click_is_lost_while_the_server_is_away(serve, open_page):
    server = serve(names_of(30))
    page = open_page(server.address)
    page.view("all")
    page.press("1")
    page.saved(1)
    server.kill()
    page.says("#saved", "No connection")
    page.press("2", "3", "3")
    page.says("#saved", "3 not sent yet")
    page.press("z")  # takes back what was never sent
    page.says("#saved", "2 not sent yet")
    assert page.cells()[2] == "photos/00002.jpg, labelled blue"
    server.start()
    page.says("#lost", "Open the address")
    other = open_page(server.address)
    page.saved(3)
    given = zip(names_of(3), ("red", "green", "blue"), strict=True)
    assert other.export() == ["file,label", *(f"{name},{label}" for name, label in given)]


def test_what_waits_is_sent_by_the_page_that_comes_after(serve, open_page):
    server = serve(names_of(30))
    page = open_page(server.address)
    page.view("all")
    server.kill()
    page.says("#saved", "No connection")
    page.press("2", " ", "3")
    page.says("#saved", "3 not sent yet")
    server.start()
    page.driver.get(server.address)
    page.saved(2)
    assert page.export() == ["file,label", "photos/00000.jpg,green", "photos/00002.jpg,blue"]


def test_labels_of_one_set_never_reach_another(serve, open_page):
    server = serve(names_of(30))
    page = open_page(server.address)
    server.kill()
    page.says("#saved", "No connection")
    page.press("2", "3")
    page.says("#saved", "2 not sent yet")
    made = {"names": names_of(30), "classes": ["x"], "photo_set": "others of the same names"}
    (server.folder / "set.json").write_text(json.dumps(made))
    server.start()
    open_page(server.address)
    page.says("#error", "Another photo set")
    assert page.state()["labelled"] == 0


def test_a_refused_label_is_told_and_not_shown(serve, open_page):
    server = serve(names_of(9))
    page = open_page(server.address)
    page.view("all")
    server.kill()
    page.says("#saved", "No connection")
    page.press("c")
    page.script("document.getElementById('name').value = 'a\\u0007b'")
    page.press(Keys.ENTER)
    page.says("#saved", "2 not sent yet")
    server.start()
    open_page(server.address)
    page.says("#error", "without control characters")
    page.says("#error", "1 photo, a\u0007b: not saved")
    page.until(lambda: "labelled" not in page.cells()[0])
    page.saved(0)


def test_a_table_is_read_and_results_are_written(serve, open_page, tmp_path):
    page = open_page(serve(names_of(30)).address)
    table = tmp_path / "given.csv"
    table.write_text(
        "file,label\nphotos/00003.jpg,red\nphotos/00004.jpg,<i>new</i>\nphotos/00005.jpg,NA\nnowhere.jpg,red\n"
    )
    page.driver.find_element("id", "file").send_keys(str(table))
    page.says("#done", "3 photos labelled from given.csv")
    page.says("#error", "Not among the photos: nowhere.jpg")
    page.says("#error", "Given.csv: 'NA' is a class")
    page.says("#classes", "<i>new</i>")
    page.click("#error button")
    page.click("#results")
    page.says("#done", "report.html")
    (tmp_path / "full").touch()
    for _ in range(2):  # the second time says it as loud
        page.click("#results")
        page.says("#error", "The results were not written: predictions.csv")
        assert "report.html" not in page.text("#done")
        page.click("#error button")
    page.script("grid.focus()")  # the button is hidden now
    page.press("z")
    page.saved(0)


def test_hostile_names_are_text(serve, open_page):
    names = [f"{HOSTILE}{number}.jpg" for number in range(8)] + ["</script>.jpg", "\u202egpj.exe", "a\nb.jpg"]
    page = open_page(serve(names, [HOSTILE, '"><script>document.title="pwned"</script>', "&lt;b&gt;"]).address)
    page.view("all")
    page.press("1", "2", "3", "c", HOSTILE + "2", Keys.ENTER)
    page.saved(4)
    page.until(lambda: page.cells()[0] == f"{names[0]}, labelled {HOSTILE}")
    page.press(Keys.ENTER)
    page.says("#photo-name", names[4])
    page.press(Keys.ESCAPE)
    page.press("?", Keys.ESCAPE)
    assert page.text("#classes li:first-child b") == HOSTILE
    assert page.script("return document.title") == "Label photos · hebbcore"
    assert page.script("return document.querySelectorAll('img[src=x], #classes img, main script').length") == 0


def test_a_class_from_right_to_left_leaves_its_number_behind_it(serve, open_page):
    page = open_page(serve(names_of(30), ("חתול", "כלב")).address)
    page.view("all")
    page.press("1", "2")
    page.saved(2)
    page.until(lambda: "guess" in page.cells()[3])
    page.press(Keys.ARROW_RIGHT, Keys.ENTER)
    page.says("#photo-says", "Guess ")
    script = """const text = document.querySelector('#photo-says').firstChild, at = text.data.search(/[0-9]/)
        const of = (from, to) => {
            const range = document.createRange()
            range.setStart(text, from)
            range.setEnd(text, to)
            return range.getBoundingClientRect()
        }
        return [of(7, at - 2).right, of(at, at + 2).left]"""
    name, number = page.script(script)
    assert name <= number


def test_a_small_screen_scrolls_nothing_sideways(serve, open_page):
    page = open_page(serve(names_of(30), ["red", "a rather long name of a class", *map(str, range(12))]).address)
    size = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    wide = """const wide = one => one.clientWidth && one.scrollWidth > one.clientWidth;
        const scrolls = one => ["auto", "scroll"].includes(getComputedStyle(one).overflowX);
        return [...document.querySelectorAll("*")].filter(one => wide(one) && scrolls(one)).map(one => one.id)"""
    try:
        page.until(lambda: page.script("return innerWidth") == 360)
        assert page.script(wide) == []
        assert page.script("return document.documentElement.scrollWidth") == 360
        assert page.script("return grid.clientHeight") > 150
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_large_photo_shows_its_thumbnail_until_it_has_come(serve, open_page):
    page = open_page(serve(names_of(9)).address)
    page.driver.execute_cdp_cmd("Network.enable", {})
    page.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/photo/*"]})
    image = "return document.getElementById('photo-image').getAttribute('src')"
    try:
        page.press(Keys.ENTER)
        page.says("#photo-loads", "cannot be read")
        assert page.script(image).startswith("/thumb/")
        page.press(Keys.ESCAPE)
    finally:
        page.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    page.press(Keys.ENTER)
    page.until(lambda: page.script(image).startswith("/photo/") and page.text("#photo-loads") == "")
    for _ in range(4):
        page.press(Keys.ARROW_RIGHT)
    focus = page.script("return document.getElementById(grid.getAttribute('aria-activedescendant')).dataset.index")
    number = page.script("return document.querySelector(`.cell[data-index='${arguments[0]}'] img`).src", focus).split(
        "/"
    )[-1]
    page.until(lambda: page.script(image) == f"/photo/{number}")
    page.press(Keys.ESCAPE)


def test_works_by_keyboard_alone_from_the_start(serve, open_page):
    page = open_page(serve(names_of(60)).address)
    focus = "return document.activeElement.id || document.activeElement.name || document.activeElement.className"
    assert page.script(focus) == "grid"
    page.press(Keys.ARROW_DOWN, Keys.ARROW_RIGHT)
    page.press(" ")
    page.says("#progress", "1 unsure")
    page.press(Keys.ENTER)
    assert page.script("return document.getElementById('photo').open")
    before = page.text("#photo-name")
    page.press("1")  # goes on to the next photo
    page.until(lambda: page.text("#photo-name") != before)
    page.press(Keys.ESCAPE)
    assert page.script(focus) == "grid"
    page.press("v")
    page.says("#done", "View: All")
    seen = set()
    for _ in range(60):
        page.press(Keys.TAB)
        seen.add(page.script(focus))
    reached = "undo import export results help view class low high size reload grid rename name accept unsure clear"
    assert set(reached.split()) <= seen


def test_fifty_thousand_photos_scroll_to_the_end(serve, open_page):
    page = open_page(serve(names_of(50_000)).address)
    page.view("all")
    page.until(lambda: page.text("#shown") == "50,000 photos")
    count = "return document.querySelectorAll('main *').length"
    for share in (0.2, 0.5, 0.7):
        page.script("grid.scrollTop = arguments[0] * grid.scrollHeight", share)
        middle = int(share * 50_000)
        page.until(lambda middle=middle: any(abs(index - middle) < 60 and said for index, said in page.cells().items()))
        assert page.script(count) < 400
    assert page.focused().startswith("photos/00000.jpg")  # the focus stays where it was
    page.press(Keys.END)
    page.until(lambda: page.focused() and page.focused().startswith("photos/49999.jpg"))
    page.until(lambda: page.script("return document.querySelector('#photo-49999 img').naturalWidth"))
    page.press("2")
    page.saved(1)
    assert page.export()[1] == "photos/49999.jpg,green"
    assert page.script(count) < 400


def test_words_have_room(serve, open_page):
    page = open_page(serve(names_of(30), [f"other{number}" for number in range(20)]).address)
    cut = "return [...document.querySelectorAll('#classes b')].filter(b => b.scrollWidth > b.clientWidth).length"
    assert page.script(cut) == 0
    page.press("?")
    widths = "const [dt, dd] = document.querySelector('#keys dl').children; return [dt.clientWidth, dd.clientWidth]"
    page.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 700, "deviceScaleFactor": 1, "mobile": False}
    )
    try:
        key, meaning = page.script(widths)
        assert meaning > key
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
