"""Who speaks: a user's voice, by which detections of other people can be left out."""
