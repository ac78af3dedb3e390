"""The files that an attempt starts from, on their way to this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from service import protocol as say
from service.worker.held import Held, failed
from service.worker.spool import Spool
from service.worker.transfers import TransferRefused, Transfers


async def fetch_all(
    digests: Mapping[str, str], held: Held, transfers: Transfers, spool: Spool
) -> say.Failed | Literal["stale"] | None:
    """Have every file in the spool folder, noted in `held.inputs` by its param; `digests` are theirs.

    Gives None when all are there, else how the attempt ends.
    """
    for field, digest in digests.items():
        where = held.inputs[field] = spool.new_input()
        try:
            fate = await transfers.fetch(where, digest, held.job, held.attempt, lambda: held.token)
        except TransferRefused as error:
            words = f"the file of params.{field} cannot be had ({error}); upload it again and submit anew"
            return failed(held, "invalid-input", words)
        except OSError as error:
            words = f"the file of params.{field} cannot be kept ({error.strerror}); free space at the worker"
            return failed(held, "internal", words)
        if fate == "stale":
            return "stale"
    return None
