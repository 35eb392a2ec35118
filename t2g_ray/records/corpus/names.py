"""The vocabulary of the embedded world: entity types, relation types and one-word names.

Invariant: a name belongs to one type, and to either the common names (all splits but one) or
the held-out names (the split `heldout_names` alone).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

ENTITY_TYPES = ("person", "company", "city", "product")

# Each relation type with the entity types of its two ends.
RELATION_ENDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "works for": ("person", "company"),
        "lives in": ("person", "city"),
        "founded": ("person", "company"),
        "based in": ("company", "city"),
        "makes": ("company", "product"),
        "acquired": ("company", "company"),
    }
)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "person": _words(
            "Ada Amir Bela Boris Carla Chen Clara Dario Diana Edgar Elena Emil Farah Felix Greta "
            "Hanna Hugo Ines Ivan Jonas Judit Kaito Karin Lars Leila Luca Maren Mateo Mina Nadia "
            "Nils Olga Omar Paula Pedro Petra Quinn Rafael Rosa Samir Selma Sofia Sven Tamar Tomas "
            "Uma Viktor Wanda Yusuf Zora"
        ),
        "company": _words(
            "Altavia Bexwell Brightum Cormax Daltron Deltiq Endura Ferrolux Finora Gentix Halcyon "
            "Hydrion Inovex Jentek Kantara Kelvinor Lumeca Mavenix Meridor Nexalis Novatek Orbitel "
            "Paxwell Quantor Redwick Rivertek Solvanta Stratum Tectara Tranzon Ultrion Vantiva "
            "Veridex Westmark Xandor Zephyra"
        ),
        "city": _words(
            "Athens Bergen Bremen Cairo Dakar Delhi Geneva Hanoi Kyoto Lagos Lima Madrid Milan "
            "Oslo Porto Prague Quito Riga Seoul Vienna"
        ),
        "product": _words(
            "Aerolite Aquaflow Autobrew Bitforge Bluecap Boltdrive Cargobot Clearview Cloudpad "
            "Datacube Dustfree Easylift Echopen Ecoheat Fastcart Flexband Glidepad Greenbox "
            "Heatsink Icecore Inkstone Jetwash Keyguard Lightbar Linkhub Mapstick Microkiln "
            "Nightlamp Omnigrip Pixelcam Powercell Printlab Quickseal Rainshell Roboarm Safestep "
            "Silkscreen Smartlock Solarcap Soundbar Speedrail Steamjet Tapewriter Thermocup "
            "Tracklight Turbofan Voicebox Waterloop"
        ),
    }
)

HELDOUT_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "person": _words("Agnes Bruno Celia Dmitri Esther Fabio Gloria Heidi Igor Jasper"),
        "company": _words("Arventis Calderon Dynacore Eltrium Globexa Norwick Primatek Sentrux"),
        "city": _words("Accra Bogota Dublin Havana Nairobi Turin"),
        "product": _words(
            "Airhook Coldvault Deskpod Firewheel Gridmate Lensbook Moonlamp Palmreader "
            "Starchip Windcatcher"
        ),
    }
)
