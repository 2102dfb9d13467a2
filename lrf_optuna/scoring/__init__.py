"""Plan -> costs without surgery, and the table of what every option of every layer costs."""
