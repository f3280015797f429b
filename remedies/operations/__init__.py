"""What each verb does, as functions: values in, values out.

Nothing here prints, asks or exits. A warning goes to ``HostSession.notify`` at once; a question is
a function that the caller passes in. Resources, facts and the guard are fields of the session, so
a unit test replaces them and needs no kernel.
"""
