"""Reports for people and machines: every form is rendered from `Report.to_json()`."""
