"""The files of one collection, page files and uploads, and the jobs that wait for them."""

from cluster.errors import InvalidInput
from cluster.pages.files import PageFiles
from cluster.settings import Settings
from jobs.journal import Journal
from jobs.uploads import Uploads


class CollectionFiles:
    """Page files and uploads of a collection of this name."""

    def __init__(self, settings: Settings, collection: str) -> None:
        settings = settings.model_copy(update={"collection": collection})
        self.pages = PageFiles.from_settings(settings)
        self.uploads = Uploads.from_settings(settings)

    def copy_document(self, tenant: str, doc_id: str, to: "CollectionFiles") -> int:
        """Copy the files of a document; returns how many. Raises FilesUnavailable."""
        pages = self.pages.copy_document(tenant, doc_id, to.pages)
        return pages + self.uploads.copy_document(tenant, doc_id, to.uploads)

    def count(self) -> int:
        """Count the files, without those of Quire 0.1."""
        return self.pages.count() + self.uploads.count()

    def remove_all(self) -> None:
        """Remove the files, without those of Quire 0.1."""
        self.pages.remove_all()
        self.uploads.remove_all()


def check_no_jobs(settings: Settings, collection: str) -> None:
    """Raise InvalidInput while jobs of the service index a collection, or wait for its uploads."""
    place = CollectionFiles(settings, collection).uploads.place
    journal = Journal(settings.data_dir / "jobs")
    waiting = [
        job
        for job in journal.jobs(journal.ids()).values()
        if not job.is_over
        and (
            (job.request.collection or settings.collection) == collection
            or any(map(place.has, job.request.paths))
        )
    ]
    if waiting:
        raise InvalidInput(
            f"{len(waiting)} jobs of the service are about {collection!r}: let them end, or "
            "cancel them"
        )
