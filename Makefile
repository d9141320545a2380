export NO_MKDOCS_2_WARNING = 1

.PHONY: check format lint types docs test

check: lint types docs test

lint:
	ruff check .
	ruff format --check .

format:
	ruff check --fix .
	ruff format .

types:
	mypy

docs:
	mkdocs build --strict --quiet
	! grep -rlE --include='*.html' '<(script|link|img)[^>]+https?://' site # nothing is loaded from elsewhere

test:
	python -m pytest -n 2
