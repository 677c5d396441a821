"""The end of a month: numbering, files, books, statements, invoices, reports, and the proof that all of them agree."""
