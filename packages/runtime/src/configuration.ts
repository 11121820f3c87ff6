/**
 * Where things are. Order of precedence, highest first: environment, configuration file, defaults for one machine.
 *
 *   LIFEBOAT_CONFIG            path of the file           (default: none)
 *   LIFEBOAT_STATE             state root                 (default: /var/lib/lifeboat, or XDG state)
 *   LIFEBOAT_CACHE             downloads, built guests    (default: ~/.cache/lifeboat)
 *   LIFEBOAT_REPOSITORY        directory, or s3://bucket/prefix (default: <state>/repository)
 *   LIFEBOAT_S3_ENDPOINT       URL of an S3 service       (default: AWS); credentials come from AWS's usual chain
 *   LIFEBOAT_S3_REGION         its region                 (default: AWS_REGION, or us-east-1)
 *   LIFEBOAT_S3_PATH_STYLE     yes: bucket in the path    (default: yes with an endpoint, no without)
 *   LIFEBOAT_CONTROL           s3://bucket/prefix for control objects (default: with the others)
 *   LIFEBOAT_LOCK_DAYS         days that Object Lock holds what is written (default: no lock)
 *   LIFEBOAT_PASSPHRASE_FILE   file with the passphrase   (default: none; a key file is used)
 *   LIFEBOAT_KEY_FILE          key file, mode 0600        (default: <state>/keys/repository.key)
 *   LIFEBOAT_PAPER_FILE        file with what was typed from a printed page, mode 0600 (default: none; goes before the others)
 *   LIFEBOAT_AGENT_FILE        file of an agent, mode 0600: backs up, reads nothing (default: none; goes before the others)
 *   LIFEBOAT_POINT_KEYS_FILE   file with the keys of points, mode 0600: reads these (default: none; goes before the others)
 *   LIFEBOAT_KMS_COMMAND       program that asks a key service (default: none), see kms-command.ts
 *   LIFEBOAT_KMS_KEY           the service's key for a new repository
 *   LIFEBOAT_TENANT            name or id                 (default: the tenant that the secret opens)
 *   LIFEBOAT_LIBVIRT_URI       hypervisor                 (default: qemu:///system)
 *   LIFEBOAT_LIBVIRT_SOCKET    libvirt's socket           (default: /run/libvirt/libvirt-sock)
 *   LIFEBOAT_TEMPORAL_ADDRESS  host:port of a cluster     (default: an embedded server)
 *   LIFEBOAT_TEMPORAL_NAMESPACE                           (default: default)
 */
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import { isPreset, PRESETS, type Preset } from '@lifeboat/repository/write/presets';
import { placeEnvironment, repositoryPlace, type RepositoryPlace } from './repository-place.ts';

export type RepositorySecret =
  | { readonly kind: 'key-file'; readonly path: string }
  | { readonly kind: 'passphrase-file'; readonly path: string }
  | { readonly kind: 'paper-file'; readonly path: string }
  | { readonly kind: 'agent-file'; readonly path: string }
  | { readonly kind: 'point-keys-file'; readonly path: string }
  | { readonly kind: 'kms' };

export interface KmsSettings {
  readonly command: string;
  readonly keyRef?: string;
}

export interface Configuration {
  /** Live state of operations; QEMU's user must reach it, so it is never inside a home directory or a clone. */
  readonly stateRoot: string;
  readonly cacheRoot: string;
  readonly repository: {
    readonly place: RepositoryPlace;
    readonly secret: RepositorySecret;
    /** `fast` unless given. */
    readonly compression?: Preset;
    readonly kms?: KmsSettings;
    readonly tenant?: string;
  };
  readonly libvirt: { readonly uri: string; readonly socketPath: string };
  /** Without an address, an embedded server is started. */
  readonly temporal: { readonly address?: string; readonly namespace: string };
}

/** What a configuration file may hold: any of these keys, all strings. */
const KEYS = {
  stateRoot: 'LIFEBOAT_STATE',
  cacheRoot: 'LIFEBOAT_CACHE',
  repository: 'LIFEBOAT_REPOSITORY',
  s3Endpoint: 'LIFEBOAT_S3_ENDPOINT',
  s3Region: 'LIFEBOAT_S3_REGION',
  s3PathStyle: 'LIFEBOAT_S3_PATH_STYLE',
  control: 'LIFEBOAT_CONTROL',
  lockDays: 'LIFEBOAT_LOCK_DAYS',
  passphraseFile: 'LIFEBOAT_PASSPHRASE_FILE',
  keyFile: 'LIFEBOAT_KEY_FILE',
  paperFile: 'LIFEBOAT_PAPER_FILE',
  agentFile: 'LIFEBOAT_AGENT_FILE',
  pointKeysFile: 'LIFEBOAT_POINT_KEYS_FILE',
  compression: 'LIFEBOAT_COMPRESSION',
  kmsCommand: 'LIFEBOAT_KMS_COMMAND',
  kmsKey: 'LIFEBOAT_KMS_KEY',
  tenant: 'LIFEBOAT_TENANT',
  libvirtUri: 'LIFEBOAT_LIBVIRT_URI',
  libvirtSocket: 'LIFEBOAT_LIBVIRT_SOCKET',
  temporalAddress: 'LIFEBOAT_TEMPORAL_ADDRESS',
  temporalNamespace: 'LIFEBOAT_TEMPORAL_NAMESPACE',
} as const;

type Key = keyof typeof KEYS;
type Settings = Partial<Record<Key, string>>;
type Environment = Readonly<Record<string, string | undefined>>;

export function loadConfiguration(
  options: { configPath?: string; environment?: Environment; uid?: number } = {},
): Configuration {
  const environment = options.environment ?? process.env;
  const path = options.configPath ?? environment['LIFEBOAT_CONFIG'];
  const settings: Settings = path ? readSettings(path) : {};
  for (const key of Object.keys(KEYS) as Key[]) {
    const value = environment[KEYS[key]];
    if (value) settings[key] = value;
  }
  const stateRoot = resolve(
    settings.stateRoot ?? defaultStateRoot(environment, options.uid ?? process.getuid?.() ?? 0),
  );
  return {
    stateRoot,
    cacheRoot: resolve(
      settings.cacheRoot ?? join(environment['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'lifeboat'),
    ),
    repository: {
      place: repositoryPlace(settings, environment, join(stateRoot, 'repository')),
      secret: secretOf(settings, stateRoot),
      ...(settings.kmsCommand
        ? { kms: { command: resolve(settings.kmsCommand), ...(settings.kmsKey ? { keyRef: settings.kmsKey } : {}) } }
        : {}),
      ...(settings.tenant ? { tenant: settings.tenant } : {}),
      ...(settings.compression ? { compression: presetOf(settings.compression) } : {}),
    },
    libvirt: {
      uri: settings.libvirtUri ?? 'qemu:///system',
      socketPath: settings.libvirtSocket ?? '/run/libvirt/libvirt-sock',
    },
    temporal: {
      ...(settings.temporalAddress ? { address: settings.temporalAddress } : {}),
      namespace: settings.temporalNamespace ?? 'default',
    },
  };
}

/** A process with the keys of points reads these, a host with an agent's file is that agent. Paper is for the day when nothing else is left. What is said outright goes before the key service; last comes the key file. */
function secretOf(settings: Settings, stateRoot: string): RepositorySecret {
  if (settings.pointKeysFile) return { kind: 'point-keys-file', path: resolve(settings.pointKeysFile) };
  if (settings.agentFile) return { kind: 'agent-file', path: resolve(settings.agentFile) };
  if (settings.paperFile) return { kind: 'paper-file', path: resolve(settings.paperFile) };
  if (settings.passphraseFile) return { kind: 'passphrase-file', path: resolve(settings.passphraseFile) };
  if (settings.kmsCommand && !settings.keyFile) return { kind: 'kms' };
  return { kind: 'key-file', path: resolve(settings.keyFile ?? join(stateRoot, 'keys', 'repository.key')) };
}

/** The same configuration as environment variables, for the processes of one stack. */
export function configurationEnvironment(configuration: Configuration): Record<string, string> {
  const { secret, kms, tenant, compression } = configuration.repository;
  return {
    LIFEBOAT_STATE: configuration.stateRoot,
    LIFEBOAT_CACHE: configuration.cacheRoot,
    ...placeEnvironment(configuration.repository.place),
    ...(secret.kind === 'passphrase-file' ? { LIFEBOAT_PASSPHRASE_FILE: secret.path } : {}),
    ...(secret.kind === 'point-keys-file' ? { LIFEBOAT_POINT_KEYS_FILE: secret.path } : {}),
    ...(secret.kind === 'agent-file' ? { LIFEBOAT_AGENT_FILE: secret.path } : {}),
    ...(secret.kind === 'paper-file' ? { LIFEBOAT_PAPER_FILE: secret.path } : {}),
    ...(secret.kind === 'key-file' ? { LIFEBOAT_KEY_FILE: secret.path } : {}),
    ...(kms ? { LIFEBOAT_KMS_COMMAND: kms.command } : {}),
    ...(kms?.keyRef === undefined ? {} : { LIFEBOAT_KMS_KEY: kms.keyRef }),
    ...(tenant === undefined ? {} : { LIFEBOAT_TENANT: tenant }),
    ...(compression ? { LIFEBOAT_COMPRESSION: compression } : {}),
    LIFEBOAT_LIBVIRT_URI: configuration.libvirt.uri,
    LIFEBOAT_LIBVIRT_SOCKET: configuration.libvirt.socketPath,
    ...(configuration.temporal.address ? { LIFEBOAT_TEMPORAL_ADDRESS: configuration.temporal.address } : {}),
    LIFEBOAT_TEMPORAL_NAMESPACE: configuration.temporal.namespace,
  };
}

function presetOf(name: string): Preset {
  if (isPreset(name)) return name;
  throw new LifeboatError(
    'input.invalid',
    `compression '${name}' is not known; there are: ${Object.keys(PRESETS).join(', ')}`,
  );
}

function defaultStateRoot(environment: Environment, uid: number): string {
  if (uid === 0) return '/var/lib/lifeboat';
  return join(environment['XDG_STATE_HOME'] ?? join(homedir(), '.local', 'state'), 'lifeboat');
}

function readSettings(path: string): Settings {
  let document: unknown;
  try {
    document = JSON.parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    throw new LifeboatError('input.invalid', `configuration file ${path} cannot be read: ${messageOf(cause)}`, {
      cause,
    });
  }
  if (typeof document !== 'object' || document === null || Array.isArray(document)) {
    throw new LifeboatError('input.invalid', `configuration file ${path} must hold one JSON object`);
  }
  const settings: Settings = {};
  for (const [key, value] of Object.entries(document)) {
    if (!(key in KEYS)) {
      const known = Object.keys(KEYS).join(', ');
      throw new LifeboatError('input.invalid', `configuration file ${path}: unknown key '${key}' (known: ${known})`);
    }
    if (typeof value !== 'string') {
      throw new LifeboatError(
        'input.invalid',
        `configuration file ${path}: '${key}' must be a string, not ${typeof value}`,
      );
    }
    settings[key as Key] = value;
  }
  return settings;
}
