"""Everything from the internet, under one name: files, files of the Hugging Face hub, pictures.

Must not know any source. Nothing here is fetched twice, and a process killed at any moment is carried on by the next.
"""

from ftbench.sources.connections import Patience
from ftbench.sources.fetch_files import Remote, download
from ftbench.sources.fetch_hub import hub_files, hub_tree
from ftbench.sources.fetch_images import Fetched, fetch_images

__all__ = ["Fetched", "Patience", "Remote", "download", "fetch_images", "hub_files", "hub_tree"]
