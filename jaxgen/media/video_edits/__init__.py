"""Editing of clips: each edit turns a stream of frames into another, and no clip is ever held whole."""
