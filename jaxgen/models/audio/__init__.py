"""Models of sound: they draw samples one after the other, or spectrograms."""
