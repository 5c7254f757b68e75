"""Tables, histograms and photos with boxes for HTML and Markdown reports."""
