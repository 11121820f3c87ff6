/**
 * Which files and devices a machine runs from, of its live definition: disks, drives, what these stand on or are mirrored to,
 * the variable store, and images passed to QEMU as arguments. No image is opened, so none is missed for being unreadable.
 *
 * A disk in the network has no path here; one that another program of this host serves is not seen.
 */
import type { MachineSources } from '../port.ts';
import { attributeOf, child, childrenOf, readXml, textOf, type XmlElement } from '../xml/xml-reader.ts';

/** Of a disk that is elsewhere, or that QEMU has for itself: no path of this host leads to it. */
const NOT_OF_THIS_HOST = new Set(['network', 'nvme']);
const LAYERS = ['backingStore', 'mirror'];

/** Errors: `hypervisor.bad-xml`. */
export function sourcesOf(domainXml: string): Omit<MachineSources, 'machine'> {
  const domain = readXml(domainXml);
  const devices = child(domain, 'devices');
  const paths: string[] = [];
  const untold: string[] = [];
  for (const disk of childrenOf(devices, 'disk')) {
    const name = attributeOf(disk, 'target', 'dev') ?? '?';
    for (const layer of layersOf(disk)) {
      const type = layer.attributes.get('type') ?? 'file';
      const source = child(layer, 'source');
      const path = source?.attributes.get('file') ?? source?.attributes.get('dev') ?? source?.attributes.get('dir');
      if (path !== undefined) paths.push(path);
      // An empty drive, and the end of a chain, have no source.
      else if (source && !NOT_OF_THIS_HOST.has(type)) untold.push(`disk ${name} is of type '${type}'`);
    }
  }
  for (const device of childrenOf(devices, 'hostdev')) {
    const isLocalScsi = device.attributes.get('type') === 'scsi' && !attributeOf(device, 'source', 'protocol');
    if (isLocalScsi) untold.push('a SCSI device of this host is passed to it');
  }
  const nvram = attributeOf(domain, 'os/nvram/source', 'file') ?? textOf(domain, 'os/nvram');
  if (nvram) paths.push(nvram);
  for (const argument of childrenOf(child(domain, 'qemu:commandline'), 'qemu:arg')) {
    paths.push(...pathsInArgument(argument.attributes.get('value') ?? ''));
  }
  return { paths: [...new Set(paths)], untold };
}

/** The disk itself, and every image below it or that it is copied to. */
function layersOf(disk: XmlElement): XmlElement[] {
  return [disk, ...LAYERS.flatMap((name) => childrenOf(disk, name)).flatMap(layersOf)];
}

/** `-blockdev` as JSON, or `-drive` with options between commas; a comma inside a value is doubled. */
function pathsInArgument(value: string): string[] {
  if (!value.startsWith('{')) {
    return [...value.matchAll(/(?:^|,)(?:file|(?:file\.)*filename)=((?:[^,]|,,)+)/g)].map(([, path = '']) =>
      path.replaceAll(',,', ','),
    );
  }
  const paths: string[] = [];
  try {
    JSON.parse(value, (key, part: unknown) => {
      if (key === 'filename' && typeof part === 'string') paths.push(part);
      return part;
    });
  } catch (error) {
    // QEMU would not have started from it either.
    if (!(error instanceof SyntaxError)) throw error;
  }
  return paths;
}
