"""One crystal strained: its reference state, its series, its tensor."""
