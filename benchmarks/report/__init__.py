"""Tables and plots of the documents, made from the files in `results` only."""
