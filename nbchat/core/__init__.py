"""The pure core: the standard library only, no clock, no environment, no display.

Only :mod:`nbchat.core.saved_files` reads and writes files.

The words used everywhere in nbchat, in the order in which a cell meets them:

*cell*          A notebook cell that the user ran. Its id is the key of its turn.
*options*       The flags and settings of one question, parsed by the table in :mod:`nbchat.options`.
*request*       The values that are sent to an endpoint: :class:`~nbchat.core.request.Request`.
*endpoint*      A server that speaks the Messages API, known by a name.
*transport*     An object that sends a request and yields events.
*event*         A dict as the Messages API sent it.
*chunk*         A typed value that the parser makes from an event: :mod:`nbchat.core.chunks`.
*sink*          An object that is fed chunks: the accumulator, a view, the journal or the ledger.
*turn*          The question of one cell, with its answers, tool calls and tool results.
*conversation*  A named, ordered list of turns: :class:`~nbchat.core.conversation.Conversation`.
*response*      The value the user gets: :class:`~nbchat.core.response.Response`.
*ledger*        A file with the tokens and the price of every request that was sent.
*journal*       A file that holds an answer while it arrives, so that a crash does not lose it.
*cassette*      A file of recorded requests and answers, which can be replayed without a network.
"""
