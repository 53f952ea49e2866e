"""What a report of drills is: a page for people, files for programs, a table for the terminal.

`write(results, folder)` writes all of it; `read(path)` gives back what drills-full.json holds, and `write_report`
writes the same report anew from that. Everything but writing is pure: from values to text.

summary.py     one verdict, sums, a row for each guarantee
figures.py     how durations, shares and sums are written
markup.py      makes elements that no text can break
course.py      what is drawn where, without overlaps
timeline.py    one drill on one axis of time, as SVG
sections.py    one drill on the page
page.py        the page; style.css and page.js are its looks and its only behaviour
formats.py     drills-full.json, with its schema, and the short drills.json
junit.py       junit.xml
terminal.py    the table
writing.py     the files
"""

from fivenines.drill.reporting.formats import Report, ReportUnreadableError
from fivenines.drill.reporting.terminal import print_results, table
from fivenines.drill.reporting.writing import read, write, write_report

__all__ = ["Report", "ReportUnreadableError", "print_results", "read", "table", "write", "write_report"]
