"""Makes the site of `docs/`: one command that builds it, checks it, and writes it down for machines, too.

`mkdocs.yml` is its configuration, which Zensical reads; `nav` puts the pages in order, `staging` brings them together,
`build` makes HTML of them, `checks` looks at every link, and `machines` writes `llms.txt` and Markdown.
"""
