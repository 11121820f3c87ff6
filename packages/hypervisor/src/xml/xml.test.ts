import { hasCode } from '@lifeboat/foundation/errors';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { attributeOf, child, readXml, textOf, type XmlElement } from './xml-reader.ts';
import { element, type Xml } from './xml-writer.ts';

interface Tree {
  readonly name: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly content: string | readonly Tree[];
}

const name = fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_.-]{0,8}$/).filter((text) => text !== '__proto__');
// Line ends are left out: XML turns them into spaces inside attributes.
const text = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 12 }).filter((value) => !/[\p{C}\s]/u.test(value));
const tree: fc.Arbitrary<Tree> = fc.letrec<{ tree: Tree }>((tie) => ({
  tree: fc.record({
    name,
    attributes: fc.dictionary(name, text, { maxKeys: 3 }),
    content: fc.oneof({ maxDepth: 3 }, text, fc.array(tie('tree'), { minLength: 1, maxLength: 3 })),
  }),
})).tree;

function written({ name, attributes, content }: Tree): Xml {
  return typeof content === 'string'
    ? element(name, attributes, content)
    : element(name, attributes, ...content.map(written));
}

function asTree(xml: XmlElement): Tree {
  const content = xml.children.length > 0 ? xml.children.map(asTree) : xml.text;
  return { name: xml.name, attributes: Object.fromEntries(xml.attributes), content };
}

function refused(document: string): boolean {
  try {
    readXml(document);
    return false;
  } catch (error) {
    if (hasCode(error, 'hypervisor.bad-xml')) return true;
    throw error;
  }
}

describe('XML', () => {
  test('what is written is read back', () => {
    fc.assert(
      fc.property(tree, (value) => {
        expect(asTree(readXml(written(value).source))).toEqual({ ...value, attributes: { ...value.attributes } });
      }),
    );
  });

  test('cut anywhere, it is refused', () => {
    fc.assert(
      fc.property(tree, (value) => {
        const { source } = written(value);
        for (let length = 0; length < source.length; length += 1) expect(refused(source.slice(0, length))).toBe(true);
      }),
      { numRuns: 30 },
    );
  });

  test('any text is an element or a refusal, and never something else', () => {
    const soup = fc.array(
      fc.constantFrom('<', '>', '/', 'a', ' ', '=', "'", '"', '&', ';', '!--', '?', 'lt', '#', '1'),
    );
    fc.assert(
      fc.property(soup, (parts) => {
        expect([true, false]).toContain(refused(parts.join('')));
      }),
    );
  });

  test('reads what libvirt writes: prolog, comments, both quotes, entities, prefixes', () => {
    const root = readXml(`<?xml version="1.0"?>
      <!-- <not this="one"/> -->
      <domain type='qemu' xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">
        <name>a &lt;b&gt; &amp; &#x41;&#66;</name>
        <qemu:commandline><qemu:arg value='-device &quot;x&quot;'/></qemu:commandline>
        <description><![CDATA[<raw> & text]]></description>
      </domain>`);
    expect(textOf(root, 'name')).toBe('a <b> & AB');
    expect(attributeOf(root, 'qemu:commandline/qemu:arg', 'value')).toBe('-device "x"');
    expect(textOf(root, 'description')).toBe('<raw> & text');
    expect(child(root, 'devices/disk')).toBeUndefined();
  });

  test.each([
    ['a document type', '<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>'],
    ['an unknown entity', '<a>&nbsp;</a>'],
    ['an entity that is not closed', '<a>&amp</a>'],
    ['two roots', '<a/><b/>'],
    ['text beside the root', '<a/>text'],
    ['crossed elements', '<a><b></a></b>'],
    ['an attribute twice', "<a x='1' x='2'/>"],
    ['nothing', ''],
    ['a character beyond Unicode', '<a>&#1114112;</a>'],
    ['deep nesting', '<a>'.repeat(65) + '</a>'.repeat(65)],
    ['too many elements', `<a>${'<b/>'.repeat(100_001)}</a>`],
    ['a document that is too long', `<a>${' '.repeat(4 * 1024 * 1024)}</a>`],
  ])('%s is refused', (_what, document) => {
    expect(refused(document)).toBe(true);
  });

  test('control characters cannot break out of a definition', () => {
    expect(element('name', {}, 'a\u0000b\u001B').source).toBe('<name>a?b?</name>');
    expect(element('a', { x: `'/><evil b='` }).source).toBe(`<a x='&apos;/&gt;&lt;evil b=&apos;'/>`);
  });
});
