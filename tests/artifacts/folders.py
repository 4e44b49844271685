"""The folder that most tests write to."""

from flowq.artifacts import stage_folder

FOLDER = stage_folder("short:42", "encode", "7-nonce")
