"""The layouts by name; a name is that of the reader, where a reader takes one layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from blda_video.data.layouts.adverse import acdc, dark_zurich
from blda_video.data.layouts.bdd import bdd10k, bdd100k, bdd_vid
from blda_video.data.layouts.camvid import camvid, camvid_owners
from blda_video.data.layouts.cityscapes import cityscapes, cityscapes_seq
from blda_video.data.layouts.class_folders import ClassFolders
from blda_video.data.layouts.folder import folder
from blda_video.data.layouts.games import gta5, viper
from blda_video.data.layouts.layout import Layout
from blda_video.data.layouts.synthia import synthia, synthia_seq
from blda_video.data.layouts.videos import videos

LAYOUTS: Mapping[str, Callable[..., Layout]] = {
    "acdc": acdc,
    "bdd10k": bdd10k,
    "bdd100k": bdd100k,
    "bdd_vid": bdd_vid,
    "camvid": camvid,
    "camvid_owners": camvid_owners,
    "cityscapes": cityscapes,
    "cityscapes_seq": cityscapes_seq,
    "class_folders": ClassFolders,
    "dark_zurich": dark_zurich,
    "folder": folder,
    "gta5": gta5,
    "synthia": synthia,
    "synthia_seq": synthia_seq,
    "videos": videos,
    "viper": viper,
}
