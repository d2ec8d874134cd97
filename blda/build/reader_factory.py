"""Data sets that a config names, and the look-ups from their labels to the classes of the run."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from blda.config.components import Constructors, construct
from blda.config.data_root import located
from blda.config.data_schema import Component
from blda.config.schema import Config
from blda.data import seeding
from blda.data.label_map import CLASS_LISTS, LabelLookup, label_lookup
from blda.data.protocols import PROTOCOLS, Protocol, protocol_of
from blda.data.readers.acdc import ACDC
from blda.data.readers.bdd10k import BDD10k
from blda.data.readers.camvid import CamVid
from blda.data.readers.cityscapes import Cityscapes
from blda.data.readers.dark_zurich import DarkZurich
from blda.data.readers.frames import Reader
from blda.data.readers.gta5 import GTA5
from blda.data.readers.image_folder import FolderReader
from blda.data.readers.synthia import Synthia
from blda.data.readers.viper import Viper
from blda.data.transforms import Resize
from blda.spelling import nearest

READERS: Constructors = {
    "acdc": ACDC,
    "bdd10k": BDD10k,
    "camvid": CamVid,
    "cityscapes": Cityscapes,
    "dark_zurich": DarkZurich,
    "folder": FolderReader,
    "gta5": GTA5,
    "synthia": Synthia,
    "viper": Viper,
}


class ReaderFactory:
    """Factory of a run's readers: opens each data set once, and builds its label look-up and resize rule.

    config: of the run. constructors: readers by `reader.name`. defaults: keywords that a reader gets unless the config
    gives them. Raises ValueError when `classes` or `evaluation.protocols` are unknown or do not fit together.
    """

    def __init__(self, config: Config, constructors: Constructors = READERS, **defaults: Any) -> None:
        self.config, self._constructors, self._defaults = config, constructors, defaults
        self._opened: dict[tuple[str, bool], Reader] = {}
        self.class_names = class_names(config)
        named = config.classes if isinstance(config.classes, str) else "all"
        own = PROTOCOLS.get(named, protocol_of(self.class_names, named))
        self.protocols = tuple(map(_protocol, config.evaluation.protocols)) or (own,)
        for protocol in self.protocols:
            protocol.require(self.class_names)

    def open(self, where: str, component: Component, labelled: bool) -> Reader:
        """Open the data set at a config's key `where`; an unlabelled one gets no label paths."""
        if (where, labelled) not in self._opened:
            keywords = {**self._defaults, **located(component, self.config.data_root)}
            self._opened[where, labelled] = construct(where, keywords, self._constructors, labelled=labelled)
        return self._opened[where, labelled]

    def source(self, member: int = 0) -> Reader:
        """Labelled source data set, or one of several."""
        return self._member("source", member, labelled=True)

    def target(self, member: int = 0) -> Reader:
        """Target data set, without labels, or one of several."""
        return self._member("target", member, labelled=False)

    def _member(self, domain: str, number: int, labelled: bool) -> Reader:
        members = getattr(self.config, domain).members
        return self.open(f"{place(self.config, domain, number)}.reader", members[number].reader, labelled)

    def evaluation(self) -> Reader:
        """Labelled data set for evaluation."""
        return self.open("evaluation.reader", self.config.evaluation.reader, labelled=True)

    def opened(self) -> list[Reader]:
        """Return the data sets that were opened so far."""
        return list(self._opened.values())

    def lookup(self, reader: Reader, rename: Mapping[str, str]) -> LabelLookup:
        """Build the look-up from the reader's ids to the run's classes."""
        return label_lookup(reader.label_map, reader.ignored, self.class_names, rename)

    def evaluation_lookup(self, reader: Reader) -> LabelLookup:
        """Build the look-up of evaluation labels; see `lookup`.

        It renames the classes that the first protocol merges where the run lacks them; see `Protocol.renaming`.
        """
        merged = self.protocols[0].renaming(self.class_names, reader.label_map.values())
        return self.lookup(reader, {**merged, **self.config.evaluation.rename})

    def resize(self, role: str, member: int = 0) -> Resize:
        """Return the resize rule for whole images of "source", "target" or "evaluation"; member: of several sets."""
        data, exact = getattr(self.config, role), self.config.data.label_resize == "nearest_exact"
        if role == "evaluation":
            return Resize(data.size, data.keep_ratio, exact)
        return Resize(data.members[member].resize, data.members[member].keep_ratio, exact)

    def seed(self, stream: str) -> int:
        """Return the seed of one stream of random numbers."""
        return seeding.seed_of(self.config.seed, stream)


def place(config: Config, domain: str, member: int) -> str:
    """Return the key of a data set of "source" or "target", such as source, or source.1 of several."""
    return f"{domain}.{member}" if getattr(config, domain).others else domain


def member_names(config: Config, domain: str) -> list[str]:
    """Return the names of a domain's data sets: of their readers, with numbers where they repeat."""
    names = [str(each.reader.get("name")) for each in getattr(config, domain).members]
    return [f"{name}.{number}" if names.count(name) > 1 else name for number, name in enumerate(names)]


def class_names(config: Config) -> tuple[str, ...]:
    """Return the names of the run's classes: of a known list, or as the config gives them.

    Raises ValueError for anything else.
    """
    named = config.classes
    if isinstance(named, str):
        if named not in CLASS_LISTS:
            raise ValueError(f"classes: no list '{named}'; {nearest(named, list(CLASS_LISTS))}, or give the names")
        return CLASS_LISTS[named]
    if not isinstance(named, tuple) or not named or not all(isinstance(name, str) for name in named):
        raise ValueError(f"classes must be the name of a list or a list of names, not {named!r}")
    return named


def _protocol(named: Any) -> Protocol:
    if isinstance(named, dict):
        keywords = {key: tuple(value) if isinstance(value, list) else value for key, value in named.items()}
        unknown = sorted(keywords.keys() - inspect.signature(Protocol).parameters.keys())
        if unknown or not {"name", "classes"} <= keywords.keys():
            raise ValueError(f"evaluation.protocols: needs name and classes, does not know {unknown or 'nothing'}")
        return Protocol(**keywords)
    if named not in PROTOCOLS:
        raise ValueError(f"evaluation.protocols: unknown '{named}'; {nearest(str(named), list(PROTOCOLS))}")
    return PROTOCOLS[named]
