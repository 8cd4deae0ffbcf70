"""The pure core: standard library only, no clock, no environment, no files, no display.

The words of the house, in the order of the pipeline:

*cell*          what the user ran; its id keys a turn.
*options*       what the magic line said, read by one table (:mod:`nbchat.options`).
*request*       what is sent: :class:`~nbchat.core.request.Request`.
*event*         a dict as the Messages API sent it.
*chunk*         a typed value made of an event: :mod:`nbchat.core.chunks`.
*sink*          whoever is fed chunks: the accumulator, a view, the journal, the ledger.
*turn*          one cell's question and all that answered it.
*conversation*  an ordered list of turns.
*response*      what the user holds afterwards: :class:`~nbchat.core.response.Response`.
*ledger*        what was spent. *journal*: answers as they arrive. *cassette*: recorded exchanges.
*endpoint*      a named place that speaks the Messages API.
"""
