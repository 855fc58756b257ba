"""Restoration: noise, blur, JPEG artefacts, haze, darkness, holes, and damage of old photographs."""
