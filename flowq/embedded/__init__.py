"""Valkey and S3 servers that need no set-up: kept by a process of their own, shared by all that attach to one data directory."""

from flowq.embedded.attachment import Attachment, attach, find_project

__all__ = ["Attachment", "attach", "find_project"]
