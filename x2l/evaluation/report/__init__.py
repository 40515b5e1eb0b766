"""A report: evaluations as one HTML file that opens from disk, with everything in it.

runs -> the rows of all of them -> table, claims, figures, questions that rows answer differently -> a page
"""

from x2l.evaluation.report.page import write_report as write_report
