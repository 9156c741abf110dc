"""A web page and a JSON API over a Predictor: images in, what the run says of them out. Nothing that is sent is kept.

    browser or curl -> app (limits, routes) -> pool (files -> images, in processes of their own)
                                            -> engine (images -> rows of predictions, several at a time) -> answers

`kit.serve(run)` (kit.serve.notebook) shows the page in a notebook.
"""
