import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { configurationEnvironment, loadConfiguration } from './configuration.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lifeboat-configuration-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

function file(text: string): string {
  const path = join(directory, 'lifeboat.json');
  writeFileSync(path, text);
  return path;
}

describe('configuration', () => {
  it('has defaults for one machine', () => {
    const root = loadConfiguration({ environment: {}, uid: 0 });
    expect(root.stateRoot).toBe('/var/lib/lifeboat');
    expect(root.repository.directory).toBe('/var/lib/lifeboat/repository');
    expect(root.repository.secret).toEqual({ kind: 'key-file', path: '/var/lib/lifeboat/keys/repository.key' });
    expect(root.temporal).toEqual({ namespace: 'default' });
    expect(loadConfiguration({ environment: { XDG_STATE_HOME: '/s' }, uid: 1000 }).stateRoot).toBe('/s/lifeboat');
  });

  it('lets the environment win over the file', () => {
    const configPath = file('{"stateRoot":"/a","libvirtUri":"qemu:///session"}');
    const loaded = loadConfiguration({ configPath, environment: { LIFEBOAT_STATE: '/b' } });
    expect(loaded.stateRoot).toBe('/b');
    expect(loaded.libvirt.uri).toBe('qemu:///session');
  });

  it.each([
    ['{', 'cannot be read'],
    ['[]', 'one JSON object'],
    ['{"statRoot":"/a"}', "unknown key 'statRoot'"],
    ['{"stateRoot":7}', "'stateRoot' must be a string, not number"],
  ])('refuses %s', (text, message) => {
    expect(() => loadConfiguration({ configPath: file(text), environment: {} })).toThrow(message);
  });

  it('survives the way through the environment of a child', () => {
    const environment = {
      LIFEBOAT_STATE: '/b',
      LIFEBOAT_PASSPHRASE_FILE: '/p',
      LIFEBOAT_TEMPORAL_ADDRESS: '127.0.0.1:7',
    };
    const loaded = loadConfiguration({ environment });
    expect(loadConfiguration({ environment: configurationEnvironment(loaded) })).toEqual(loaded);
  });
});
