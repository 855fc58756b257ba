"""XMP packets: properties of a file in RDF, read without trust and written in one plain form."""

from collections.abc import Iterable
from xml.etree import ElementTree as ET

NAMESPACES = {
    "x": "adobe:ns:meta/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "Iptc4xmpCore": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpRights": "http://ns.adobe.com/xap/1.0/rights/",
    "dc": "http://purl.org/dc/elements/1.1/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "plus": "http://ns.useplus.org/ldf/xmp/1.0/",
    "cc": "http://creativecommons.org/ns#",
    "lr": "http://ns.adobe.com/lightroom/1.0/",
    "jaxgen": "urn:x-jaxgen:mark:1.0/",
}
# What describes a photo, by namespace, and what in these belongs to the file instead.
DESCRIPTION = ("Iptc4xmpExt", "Iptc4xmpCore", "xmp", "xmpRights", "dc", "photoshop", "plus", "cc", "lr", "jaxgen")
LAYOUT = frozenset(
    {"xmp:Thumbnails", "photoshop:ICCProfile", "photoshop:ColorMode", "photoshop:DocumentAncestors"}
    | {"photoshop:History", "photoshop:LegacyIPTCDigest", "photoshop:TextLayers"}
)
LARGEST = 60_000  # bytes of a packet that every format can hold
DEEPEST = 30  # levels of elements
HEAD, TAIL = b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>', b'<?xpacket end="w"?>'

for _prefix, _uri in NAMESPACES.items():
    ET.register_namespace(_prefix, _uri)


class _Builder(ET.TreeBuilder):
    """Refuses document types, without which there are no entities, and deep nesting."""

    depth = 0

    def doctype(self, name, pubid, system):
        raise ValueError("it has a document type")

    def start(self, tag, attrs, /):
        self.depth += 1
        if self.depth > DEEPEST:
            raise ValueError("its elements are nested too deeply")
        return super().start(tag, attrs)

    def end(self, tag, /):
        self.depth -= 1
        return super().end(tag)


def tag_of(name: str) -> str:
    """Return the tag of a property such as dc:title, as ElementTree writes it."""
    prefix, _, local = name.partition(":")
    return f"{{{NAMESPACES[prefix]}}}{local}"


def properties(packet: bytes) -> list[ET.Element]:
    """Return the properties of a packet; those that are attributes as elements. Raises ValueError for a damaged one."""
    parser = ET.XMLParser(target=_Builder())
    try:
        parser.feed(packet.strip(b"\0 \r\n\t"))
        root = parser.close()
    except ET.ParseError as error:
        raise ValueError(f"its XMP is damaged: {error}") from error
    found = []
    for rdf in root.iter(tag_of("rdf:RDF")):
        for description in rdf.findall(tag_of("rdf:Description")):
            names = [tag for tag in description.attrib if tag.startswith("{") and not tag.startswith(tag_of("rdf:"))]
            found += [element(tag, description.attrib[tag]) for tag in names]
            found += list(description)
    return found


def element(tag: str, text: str) -> ET.Element:
    """Return a property with a text as its value."""
    made = ET.Element(tag)
    made.text = text
    return made


def packet_of(found: Iterable[ET.Element]) -> bytes:
    """Return the packet of properties, sorted: equal properties give equal bytes."""
    root = ET.Element(tag_of("x:xmpmeta"))
    description = ET.SubElement(ET.SubElement(root, tag_of("rdf:RDF")), tag_of("rdf:Description"))
    description.set(tag_of("rdf:about"), "")
    description.extend(sorted(found, key=lambda each: each.tag))
    return HEAD + ET.tostring(root, "utf-8", xml_declaration=False) + TAIL


def described(packet: bytes) -> bytes | None:
    """Return the part of a photo's packet that describes its content and rights, which outputs keep.

    None for nothing, for a damaged packet and for one that is too large.
    """
    prefixes = {tag_of(f"{prefix}:"): prefix for prefix in DESCRIPTION}

    def kept(one: ET.Element) -> bool:
        uri, _, local = one.tag.rpartition("}")
        prefix = prefixes.get(uri + "}")
        return prefix is not None and f"{prefix}:{local}" not in LAYOUT

    try:
        found = [one for one in properties(packet) if kept(one)]
    except ValueError:
        return None
    made = packet_of(found) if found else b""
    return made if 0 < len(made) <= LARGEST else None


def texts(packet: bytes) -> dict[str, str]:
    """Return the properties of a packet with simple values, such as {"dc:title": "A"}. Lists are joined by commas.

    A property of an unknown namespace is left out. Raises ValueError for a damaged packet.
    """
    prefixes = {uri: prefix for prefix, uri in NAMESPACES.items()}
    found = {}
    for one in properties(packet):
        uri, _, local = one.tag.removeprefix("{").rpartition("}")
        items = [each.text or "" for each in one.iter(tag_of("rdf:li"))]
        value = one.get(tag_of("rdf:resource")) or ", ".join(items) or (one.text or "").strip()
        if uri in prefixes and value:
            found[f"{prefixes[uri]}:{local}"] = value
    return found
