/**
 * Reads the XML that libvirt writes: elements, attributes, text, comments, the five named entities and numeric ones.
 *
 * Not a general XML parser on purpose. A document type definition is refused (no entities of one's own, so no expansion
 * bombs), namespaces stay prefixes, and size, depth and number of elements are limited. Every violation is
 * `hypervisor.bad-xml` with the offset.
 */
import { LifeboatError } from '@lifeboat/foundation/errors';
import { MiB } from '@lifeboat/foundation/units';

/** libvirt's own limit of one string is 4 MiB. */
const DOCUMENT_MAX_CHARS = 4 * MiB;
const DEPTH_MAX = 64;
const ELEMENTS_MAX = 100_000;

export interface XmlElement {
  /** With its prefix, as written: `qemu:arg`. */
  readonly name: string;
  readonly attributes: ReadonlyMap<string, string>;
  readonly children: readonly XmlElement[];
  /** Text directly in this element, all pieces joined, as written. */
  readonly text: string;
}

interface Building {
  readonly name: string;
  readonly attributes: ReadonlyMap<string, string>;
  readonly children: XmlElement[];
  text: string;
}

const NAME = /[A-Za-z_][\w.:-]*/y;
const SPACE = /[ \t\r\n]*/y;
const ENTITIES: Readonly<Record<string, string>> = { lt: '<', gt: '>', amp: '&', quot: '"', apos: "'" };

/** The root element of a document. */
export function readXml(document: string): XmlElement {
  if (document.length > DOCUMENT_MAX_CHARS) throw bad(0, `${document.length} characters exceed ${DOCUMENT_MAX_CHARS}`);
  const holder: Building = { name: '', attributes: new Map(), children: [], text: '' };
  const open: Building[] = [holder];
  let elements = 0;
  let position = 0;

  while (position < document.length) {
    const inside = open.at(-1) ?? holder;
    if (document[position] !== '<') {
      const end = indexOrEnd(document, '<', position);
      inside.text += decodeText(document.slice(position, end), position);
      position = end;
    } else if (document.startsWith('<!--', position)) {
      position = after(document, '-->', position + 4);
    } else if (document.startsWith('<![CDATA[', position)) {
      const end = after(document, ']]>', position + 9);
      inside.text += document.slice(position + 9, end - 3);
      position = end;
    } else if (document.startsWith('<?', position)) {
      position = after(document, '?>', position + 2);
    } else if (document.startsWith('<!', position)) {
      throw bad(position, 'a document type definition is not accepted');
    } else if (document.startsWith('</', position)) {
      const name = nameAt(document, position + 2);
      if (open.length === 1 || inside.name !== name) throw bad(position, `</${name}> closes <${inside.name}>`);
      position = skipSpace(document, position + 2 + name.length);
      if (document[position] !== '>') throw bad(position, `</${name} is not closed`);
      position += 1;
      open.pop();
    } else {
      elements += 1;
      if (elements > ELEMENTS_MAX) throw bad(position, `more than ${ELEMENTS_MAX} elements`);
      const tag = readTag(document, position);
      const element: Building = { name: tag.name, attributes: tag.attributes, children: [], text: '' };
      inside.children.push(element);
      if (!tag.empty) open.push(element);
      if (open.length > DEPTH_MAX) throw bad(position, `elements nest deeper than ${DEPTH_MAX}`);
      position = tag.end;
    }
  }
  if (open.length > 1) throw bad(position, `<${open.at(-1)?.name}> is not closed`);
  const [root] = holder.children;
  if (!root || holder.children.length > 1 || holder.text.trim() !== '') throw bad(0, 'not one root element');
  return root;
}

/** First child of that name, or along a path `os/loader`; undefined when any step is missing. */
export function child(element: XmlElement | undefined, path: string): XmlElement | undefined {
  let found = element;
  for (const name of path.split('/')) found = found?.children.find((candidate) => candidate.name === name);
  return found;
}

export function childrenOf(element: XmlElement | undefined, name: string): XmlElement[] {
  return element?.children.filter((candidate) => candidate.name === name) ?? [];
}

/** Trimmed text of the element at `path`; undefined when there is none. */
export function textOf(element: XmlElement | undefined, path: string): string | undefined {
  return child(element, path)?.text.trim();
}

/** Attribute of the element at `path` ('' is the element itself). */
export function attributeOf(element: XmlElement | undefined, path: string, name: string): string | undefined {
  return (path === '' ? element : child(element, path))?.attributes.get(name);
}

function readTag(
  document: string,
  start: number,
): { name: string; attributes: Map<string, string>; empty: boolean; end: number } {
  const name = nameAt(document, start + 1);
  const attributes = new Map<string, string>();
  let position = start + 1 + name.length;
  for (;;) {
    const next = skipSpace(document, position);
    if (document.startsWith('/>', next)) return { name, attributes, empty: true, end: next + 2 };
    if (document[next] === '>') return { name, attributes, empty: false, end: next + 1 };
    if (next === position) throw bad(next, `<${name} is not closed`);
    const key = nameAt(document, next);
    const equals = skipSpace(document, next + key.length);
    const quoteAt = skipSpace(document, equals + 1);
    const quote = document[quoteAt];
    if (document[equals] !== '=' || (quote !== '"' && quote !== "'")) throw bad(next, `attribute ${key} has no value`);
    const end = document.indexOf(quote, quoteAt + 1);
    if (end === -1) throw bad(quoteAt, `the value of ${key} is not closed`);
    if (attributes.has(key)) throw bad(next, `attribute ${key} is there twice`);
    const value = document.slice(quoteAt + 1, end);
    if (value.includes('<')) throw bad(quoteAt, `the value of ${key} holds '<'`);
    attributes.set(key, decodeText(value, quoteAt));
    position = end + 1;
  }
}

function nameAt(document: string, position: number): string {
  NAME.lastIndex = position;
  const match = NAME.exec(document);
  if (!match) throw bad(position, 'a name is expected');
  return match[0];
}

function skipSpace(document: string, position: number): number {
  SPACE.lastIndex = position;
  SPACE.exec(document);
  return SPACE.lastIndex;
}

function decodeText(text: string, position: number): string {
  if (!text.includes('&')) return text;
  return text.replaceAll(/&([^;&]{0,10});?/g, (whole, name: string) => {
    const named = ENTITIES[name];
    if (named !== undefined && whole.endsWith(';')) return named;
    const numeric = /^#(?:x([0-9a-fA-F]{1,6})|([0-9]{1,7}))$/.exec(name);
    const code = numeric ? Number.parseInt(numeric[1] ?? numeric[2] ?? '', numeric[1] ? 16 : 10) : Number.NaN;
    if (!whole.endsWith(';') || !(code > 0 && code <= 0x10_ffff)) throw bad(position, `unknown entity '${whole}'`);
    return String.fromCodePoint(code);
  });
}

function indexOrEnd(document: string, what: string, from: number): number {
  const index = document.indexOf(what, from);
  return index === -1 ? document.length : index;
}

function after(document: string, what: string, from: number): number {
  const index = document.indexOf(what, from);
  if (index === -1) throw bad(from, `'${what}' is missing`);
  return index + what.length;
}

function bad(position: number, why: string): LifeboatError {
  return new LifeboatError('hypervisor.bad-xml', `XML from libvirt does not parse at character ${position}: ${why}`, {
    context: { position },
  });
}
