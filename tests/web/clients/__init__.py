"""Web clients and what stands around them: a browser, Node, a site with pages, a cable to pull."""
