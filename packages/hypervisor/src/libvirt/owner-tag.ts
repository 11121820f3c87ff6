/** The mark on everything Lifeboat creates in libvirt: whose it is, so that nobody else's is ever removed. */
import { parseHostId, parseOpId } from '@lifeboat/foundation/ids';
import type { Owner } from '../port.ts';
import { childrenOf, readXml, type XmlElement } from '../xml/xml-reader.ts';
import { element, type Xml } from '../xml/xml-writer.ts';

/** Names the element; it is an identifier, not a place to load anything from. */
export const OWNER_NAMESPACE = 'urn:lifeboat:owner:1';
const ELEMENT = 'lifeboat:owner';

/** For the `<metadata>` of a domain or network. */
export function ownerTag({ opId, hostId }: Owner): Xml {
  return element(ELEMENT, { 'xmlns:lifeboat': OWNER_NAMESPACE, op: opId, host: hostId });
}

/** The owner a definition names; undefined when it is not ours, or carries something that only looks like our tag. */
function ownerIn(definition: XmlElement): Owner | undefined {
  for (const metadata of childrenOf(definition, 'metadata')) {
    for (const tag of metadata.children) {
      const [prefix = '', name = prefix] = tag.name.split(':');
      const namespace = tag.attributes.get(`xmlns:${prefix}`) ?? tag.attributes.get('xmlns');
      if (name !== 'owner' || namespace !== OWNER_NAMESPACE) continue;
      try {
        return {
          opId: parseOpId(tag.attributes.get('op') ?? ''),
          hostId: parseHostId(tag.attributes.get('host') ?? ''),
        };
      } catch {
        // Damaged or foreign: whoever wrote it, it does not prove that the object is ours, so it stays untouched.
        return undefined;
      }
    }
  }
  return undefined;
}

export function ownerInXml(xml: string): Owner | undefined {
  return ownerIn(readXml(xml));
}
