"""What each verb does, as functions: values in, values out.

Nothing here prints, asks or exits. What a person should hear at once goes to ``Session.notify``; a
question is a function that the caller hands in. How the host is reached (resources, facts, the
guard) is part of the session, so that all of it runs in a test without a kernel.
"""
