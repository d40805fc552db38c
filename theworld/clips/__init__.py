"""Clips as people have them, made ready for the model: pictures, arrays, tensors, video files, items of messages."""
