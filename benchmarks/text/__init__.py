"""What models write: whether it repeats itself, and where drafts change it. No times: a busy machine will do."""
