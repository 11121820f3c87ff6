import { parseHostId, parseOpId } from '@lifeboat/foundation/ids';
import { describe, expect, test } from 'vitest';
import { element } from '../xml/xml-writer.ts';
import { OWNER_NAMESPACE, ownerInXml, ownerTag } from './owner-tag.ts';

const owner = { opId: parseOpId('op-1'), hostId: parseHostId('host-a') };

describe('owner tags', () => {
  test('are found again, whatever prefix libvirt gives the namespace', () => {
    expect(ownerInXml(element('domain', {}, element('metadata', {}, ownerTag(owner))).source)).toEqual(owner);
    const renamed = `<domain><metadata><a:x xmlns:a='urn:other'/><ns0:owner xmlns:ns0='${OWNER_NAMESPACE}' op='op-1' host='host-a'/></metadata></domain>`;
    expect(ownerInXml(renamed)).toEqual(owner);
  });

  test.each([
    ['no metadata', '<domain/>'],
    ['another namespace', "<domain><metadata><l:owner xmlns:l='urn:x' op='op-1' host='host-a'/></metadata></domain>"],
    ['no namespace', "<domain><metadata><owner op='op-1' host='host-a'/></metadata></domain>"],
    [
      'another element',
      `<domain><metadata><l:x xmlns:l='${OWNER_NAMESPACE}' op='op-1' host='host-a'/></metadata></domain>`,
    ],
    ['no operation', `<domain><metadata><l:owner xmlns:l='${OWNER_NAMESPACE}' host='host-a'/></metadata></domain>`],
    [
      'an id that is none',
      `<domain><metadata><l:owner xmlns:l='${OWNER_NAMESPACE}' op='../x' host='host-a'/></metadata></domain>`,
    ],
    ['a tag outside the metadata', `<domain><l:owner xmlns:l='${OWNER_NAMESPACE}' op='op-1' host='host-a'/></domain>`],
  ])('%s: not ours', (_what, xml) => {
    expect(ownerInXml(xml)).toBeUndefined();
  });
});
