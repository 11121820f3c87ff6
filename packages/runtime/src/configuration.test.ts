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
  it('knows how hard to compress, and hands it on', () => {
    const small = loadConfiguration({ environment: { LIFEBOAT_COMPRESSION: 'small' }, uid: 0 });
    expect(small.repository.compression).toBe('small');
    expect(configurationEnvironment(small)).toMatchObject({ LIFEBOAT_COMPRESSION: 'small' });
    expect(() => loadConfiguration({ environment: { LIFEBOAT_COMPRESSION: 'best' } })).toThrow('fast, small');
  });

  it('takes paper before every other way in, and hands it on', () => {
    const environment = { LIFEBOAT_PAPER_FILE: '/p', LIFEBOAT_PASSPHRASE_FILE: '/q', LIFEBOAT_KMS_COMMAND: '/k' };
    const loaded = loadConfiguration({ environment, uid: 0 });
    expect(loaded.repository.secret).toEqual({ kind: 'paper-file', path: '/p' });
    expect(loadConfiguration({ environment: configurationEnvironment(loaded), uid: 0 })).toEqual(loaded);
  });

  it('is an agent where there is the file of one, and hands that on', () => {
    const environment = { LIFEBOAT_AGENT_FILE: '/a', LIFEBOAT_KEY_FILE: '/k', LIFEBOAT_PAPER_FILE: '/p' };
    const loaded = loadConfiguration({ environment, uid: 0 });
    expect(loaded.repository.secret).toEqual({ kind: 'agent-file', path: '/a' });
    expect(loadConfiguration({ environment: configurationEnvironment(loaded), uid: 0 })).toEqual(loaded);
    const reader = loadConfiguration({ environment: { ...environment, LIFEBOAT_POINT_KEYS_FILE: '/r' }, uid: 0 });
    expect(reader.repository.secret).toEqual({ kind: 'point-keys-file', path: '/r' });
    expect(loadConfiguration({ environment: configurationEnvironment(reader), uid: 0 })).toEqual(reader);
  });

  it('has defaults for one machine', () => {
    const root = loadConfiguration({ environment: {}, uid: 0 });
    expect(root.stateRoot).toBe('/var/lib/lifeboat');
    expect(root.repository.place).toEqual({ kind: 'directory', path: '/var/lib/lifeboat/repository' });
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

  it('takes a bucket for a repository, and everything about it through the environment of a child', () => {
    const environment = {
      LIFEBOAT_REPOSITORY: 's3://backups/site/one',
      LIFEBOAT_CONTROL: 's3://backups-control',
      LIFEBOAT_S3_ENDPOINT: 'http://127.0.0.1:9000/',
      LIFEBOAT_LOCK_DAYS: '30',
      AWS_REGION: 'eu-central-1',
    };
    const loaded = loadConfiguration({ environment });
    const service = { endpoint: 'http://127.0.0.1:9000', region: 'eu-central-1', pathStyle: true };
    expect(loaded.repository.place).toEqual({
      kind: 's3',
      data: { bucket: 'backups', prefix: 'site/one/', ...service },
      control: { bucket: 'backups-control', prefix: '', ...service },
      lockDays: 30,
    });
    expect(loadConfiguration({ environment: configurationEnvironment(loaded) })).toEqual(loaded);
    const amazon = loadConfiguration({ environment: { LIFEBOAT_REPOSITORY: 's3://backups' } });
    expect(amazon.repository.place).toMatchObject({ data: { prefix: '', region: 'us-east-1', pathStyle: false } });
  });

  it.each([
    [{ LIFEBOAT_REPOSITORY: 's3:backups' }, 's3://bucket/prefix'],
    [{ LIFEBOAT_REPOSITORY: 's3://b' }, 's3://bucket/prefix'],
    [{ LIFEBOAT_REPOSITORY: 's3://backups/a/../b' }, 's3://bucket/prefix'],
    [{ LIFEBOAT_REPOSITORY: 's3://backups', LIFEBOAT_S3_ENDPOINT: 'minio:9000' }, 'https://host:port'],
    [{ LIFEBOAT_REPOSITORY: 's3://backups', LIFEBOAT_S3_PATH_STYLE: 'true' }, 'yes or no'],
    [{ LIFEBOAT_REPOSITORY: 's3://backups', LIFEBOAT_LOCK_DAYS: '0' }, 'whole number'],
    [{ LIFEBOAT_REPOSITORY: 's3://backups', LIFEBOAT_LOCK_DAYS: '1.5' }, 'whole number'],
    [{ LIFEBOAT_LOCK_DAYS: '30' }, 'for buckets'],
  ])('refuses %j', (environment, message) => {
    expect(() => loadConfiguration({ environment })).toThrow(message);
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
      LIFEBOAT_KMS_COMMAND: '/usr/bin/vault',
      LIFEBOAT_KMS_KEY: 'k1',
      LIFEBOAT_TENANT: 'other',
    };
    const loaded = loadConfiguration({ environment });
    expect(loadConfiguration({ environment: configurationEnvironment(loaded) })).toEqual(loaded);
  });
});
