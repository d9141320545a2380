"""The labelling page in a browser: labels by keyboard, on the disk at once, through kills and in two tabs."""

import time

from browser_helpers import SHIFT_RIGHT, Keys, names_of

pytest_plugins = ("browser_helpers",)


def test_twenty_labels_by_keyboard_survive_a_reload_and_a_kill(serve, open_page):
    server = serve(names_of(90))
    page = open_page(server.address)
    given = {}
    for index in range(20):
        given[page.focused().split(",")[0]] = index % 3
        page.press(str(index % 3 + 1))
    assert len(given) == 20
    page.saved(20)
    page.press("z")
    page.saved(19)
    page.says("#done", "Taken back: 1 photo")
    last = page.focused().split(",")[0]
    assert last == list(given)[-1]
    del given[last]

    page.driver.refresh()
    page.says("#progress", "19 of 90 photos labelled")
    server.kill()
    page.says("#lost", "No connection to the server")
    server.start()
    page.driver.get(server.address)
    page.says("#progress", "19 of 90 photos labelled")
    page.press("3")
    page.saved(20)
    rows = page.export()
    classes = ("red", "green", "blue")
    assert rows[0] == "file,label"
    assert len(rows) == 21
    assert {f"{name},{classes[number]}" for name, number in given.items()} < set(rows)


def test_the_next_queue_comes_when_one_is_done(serve, open_page):
    page = open_page(serve(names_of(70)).address)
    page.says("#shown", "48 photos")
    seen = {page.focused().split(",")[0]}
    for number in range(47):
        page.press(str(number % 3 + 1))
        seen.add(page.focused().split(",")[0])
    assert len(seen) == 48
    page.press(" ")
    page.saved(47)
    page.until(lambda: page.focused().split(",")[0] not in seen)
    assert page.state()["unsure"] == 1
    time.sleep(0.5)
    page.press("1")
    page.saved(48)


def test_two_tabs_agree(serve, open_page):
    server = serve(names_of(30))
    one, other = open_page(server.address), open_page(server.address)
    for page in (one, other):
        page.view("all")
        page.until(lambda page=page: len(page.cells()) > 3)
    one.press("2")
    other.until(lambda: other.cells()[0] == "photos/00000.jpg, labelled green")
    other.press(" ")
    one.until(lambda: one.cells()[0] == "photos/00000.jpg, unsure")
    one.says("#progress", "0 of 30 photos labelled, 1 unsure")
    one.press("z", "z")
    other.until(lambda: "labelled" not in other.cells()[0] and "unsure" not in other.cells()[0])


def test_several_at_once(serve, open_page):
    page = open_page(serve(names_of(40)).address)
    page.view("all")
    page.press(*[SHIFT_RIGHT] * 4)
    page.says("#done", "5 photos selected")
    page.press("1")
    page.saved(5)
    assert [said for said in page.cells().values() if "labelled red" in said] == [
        f"{name}, labelled red" for name in names_of(5)
    ]
    page.press("z")
    page.saved(0)
    page.click("#photo-1")
    page.click("#photo-3 .pick")
    page.press("2")
    page.saved(1)
    page.press("a", "3")
    page.until(lambda: page.state()["labelled"] > 10)


def test_a_class_added_on_the_fly_is_used_and_renamed(serve, open_page):
    page = open_page(serve(names_of(9)).address)
    page.view("all")
    page.press("c", "violet")
    page.says("#name-hint", "Adds violet as a new class")
    page.press(Keys.ENTER)
    page.saved(1)
    page.says("#classes", "violet")
    page.press("4")
    page.saved(2)
    page.click("#classes li:nth-child(4) .rename")
    page.press("mauve", Keys.ENTER)
    page.until(lambda: page.cells()[1] == "photos/00001.jpg, labelled mauve")
    page.press("c", "red", Keys.ENTER)
    page.saved(3)
    assert [one["name"] for one in page.state()["classes"]] == ["red", "green", "blue", "mauve"]
    page.press("c", "x" * 250, Keys.ENTER)  # the field takes 200 letters
    page.saved(4)


def test_filters_and_corrects_guesses(serve, open_page):
    page = open_page(serve(names_of(60)).address)
    page.view("all")
    page.press("1", "2", "3", "1")
    page.saved(4)
    page.until(lambda: "guess" in page.cells()[4] and "guess red" in page.cells()[9])
    page.script("document.querySelector('#filter [name=class]').value = 'green'")
    page.script("document.querySelector('#filter [name=class]').dispatchEvent(new Event('change', {bubbles: true}))")
    page.until(lambda: all("green" in said for said in page.cells().values()))
    page.view("unlabelled")
    page.until(lambda: page.cells() and all("guess green" in said for said in page.cells().values()))
    first = page.focused().split(",")[0]
    page.press("g")
    page.saved(5)
    second = page.focused().split(",")[0]
    assert second != first
    page.press("3")
    page.saved(6)
    assert {f"{first},green", f"{second},blue"} < set(page.export())


def test_guesses_that_nobody_sees_are_not_accepted(serve, open_page):
    page = open_page(serve(names_of(30)).address)
    page.view("all")
    page.press("2", *"231231", " ")  # the first is red
    page.saved(7)
    page.until(lambda: "guess" in page.cells()[8])
    page.press(Keys.HOME, *[SHIFT_RIGHT] * 9, "g")
    page.saved(9)  # of ten photos seven had a label, which is shown in place of a guess, and one was unsure
    rows = page.export()
    assert "photos/00000.jpg,green" in rows
    assert not any("00007" in row for row in rows)
    page.press(Keys.HOME, "g")
    page.says("#done", "There is no guess to accept here")


def test_an_estimate_with_its_curve_comes_with_ten_labels(serve, open_page):
    page = open_page(serve(names_of(30)).address)
    page.view("all")
    page.press(*"1231231231")
    page.says("#estimate", "80 %")
    page.says("#interval", "70 % to 90 %")
    assert "80 percent right with 10 labels" in page.script("return document.querySelector('#curve svg').ariaLabel")
