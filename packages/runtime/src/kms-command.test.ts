import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { CommandKms } from './kms-command.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lifeboat-kms-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

/** Reverses the line; knows one key; has no answer for another. */
const PROGRAM = `#!/bin/sh
case "$2" in
  k1) case "$1" in destroy) exit 0;; *) base64 -d | rev_bytes | base64 -w0; echo;; esac;;
  slow) exit 75;;
  chatty) echo 'Welcome to the vault!';;
  *) echo "no key $2" >&2; exit 2;;
esac
`.replace('rev_bytes', `od -An -v -tu1 -w1 | tac | awk '{printf "%c", $1 + 0}'`);

function program(): string {
  const path = join(directory, 'vault');
  writeFileSync(path, PROGRAM);
  chmodSync(path, 0o755);
  return path;
}

test('bytes go through a program as base64, and come back', async () => {
  const kms = new CommandKms(program());
  const plain = Buffer.from(Array.from({ length: 32 }, (_, i) => i + 1));
  const wrapped = await kms.wrap('k1', plain);
  expect(Buffer.from(wrapped)).toEqual(Buffer.from(plain.toReversed()));
  expect(Buffer.from(await kms.unwrap('k1', wrapped))).toEqual(plain);
  await kms.destroy('k1');
});

test('a refusal is told from no answer, and noise from bytes', async () => {
  const kms = new CommandKms(program());
  const bytes = Buffer.alloc(32, 1);
  await expect(kms.unwrap('gone', bytes)).rejects.toMatchObject({
    code: 'repository.kms-refused',
    message: expect.stringContaining('no key gone') as string,
  });
  await expect(kms.unwrap('slow', bytes)).rejects.toMatchObject({ code: 'repository.kms-unreachable' });
  await expect(kms.unwrap('chatty', bytes)).rejects.toMatchObject({ code: 'repository.kms-refused' });
  await expect(kms.unwrap('--help', bytes)).rejects.toMatchObject({ code: 'input.invalid' });
  const none = new CommandKms(join(directory, 'nothing'));
  await expect(none.unwrap('k1', bytes)).rejects.toMatchObject({ code: 'repository.kms-unreachable' });
});
