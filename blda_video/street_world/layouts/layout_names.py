"""The layouts by name; a layout has its reader's name where the reader has only one layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from blda_video.street_world.layouts.adverse_layouts import acdc, dark_zurich
from blda_video.street_world.layouts.bdd_layouts import bdd10k, bdd100k, bdd_vid
from blda_video.street_world.layouts.camvid_layouts import camvid, camvid_owners
from blda_video.street_world.layouts.cityscapes_layouts import cityscapes, cityscapes_seq
from blda_video.street_world.layouts.class_folder_layout import ClassFolders
from blda_video.street_world.layouts.folder_layout import folder
from blda_video.street_world.layouts.game_layouts import gta5, viper
from blda_video.street_world.layouts.layout import Layout
from blda_video.street_world.layouts.synthia_layouts import synthia, synthia_seq
from blda_video.street_world.layouts.video_layouts import videos

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
