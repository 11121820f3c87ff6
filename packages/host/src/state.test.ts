import { execFileSync } from 'node:child_process';
import { chmod, mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { systemRandom } from '@lifeboat/foundation/random';
import { makeQemuDirectory, openStateRoot, passageMode, stateRootPath } from './state.ts';
import { scratchDirectory } from './testing/scratch.ts';

const isRoot = process.getuid?.() === 0;
const modeOf = async (path: string): Promise<number> => (await stat(path)).mode & 0o7777;

describe('stateRootPath', () => {
  test('LIFEBOAT_STATE, then root or XDG', () => {
    const home = { HOME: '/home/ada' };
    expect(stateRootPath({ ...home, LIFEBOAT_STATE: '/srv/lb' }, 0)).toBe('/srv/lb');
    expect(stateRootPath(home, 0)).toBe('/var/lib/lifeboat');
    expect(stateRootPath({ ...home, XDG_STATE_HOME: '/state' }, 1000)).toBe('/state/lifeboat');
    expect(stateRootPath(home, 1000)).toBe('/home/ada/.local/state/lifeboat');
    for (const env of [{}, { LIFEBOAT_STATE: 'state' }, { XDG_STATE_HOME: 'state' }]) {
      expect(() => stateRootPath(env, 1000)).toThrow(expect.objectContaining({ code: 'host.state-unusable' }));
    }
  });
});

describe('openStateRoot', () => {
  test('makes the layout once, and names the host once, also when two start together', async () => {
    const path = join(await scratchDirectory(), 'a/b');
    const opened = await Promise.all([1, 2, 3].map(() => openStateRoot(path, systemRandom)));
    const ids = new Set(opened.map(({ hostId }) => hostId));
    expect(ids.size).toBe(1);
    expect(await openStateRoot(path, systemRandom)).toEqual({ path, hostId: [...ids][0] });
    expect(await modeOf(path)).toBe(passageMode());
    expect(await modeOf(join(path, 'ops'))).toBe(passageMode());
    expect(await modeOf(join(path, 'exports'))).toBe(0o700);
    expect(await modeOf(join(path, 'host-id'))).toBe(0o600);
  });

  test('does not replace a host id it cannot read', async () => {
    const path = await scratchDirectory();
    await writeFile(join(path, 'host-id'), 'Not An Id\n');
    await expect(openStateRoot(path, systemRandom)).rejects.toMatchObject({ code: 'host.state-unusable' });
    expect(await readFile(join(path, 'host-id'), 'utf8')).toBe('Not An Id\n');
  });

  test('refuses a place inside a clone of the source', async () => {
    const clone = await scratchDirectory();
    await writeFile(join(clone, 'package.json'), '{ "name": "lifeboat" }');
    await expect(openStateRoot(join(clone, 'var/state'), systemRandom)).rejects.toThrow(/inside the source tree/);
    const here = new URL('./state', import.meta.url).pathname;
    await expect(openStateRoot(here, systemRandom)).rejects.toMatchObject({ code: 'host.state-unusable' });
  });
});

describe('what QEMU may reach', () => {
  test.runIf(isRoot)("QEMU's account writes its own directory and nothing else", async () => {
    // The scratch directory itself is private; the state beneath it is what is looked at.
    const outer = await scratchDirectory();
    await chmod(outer, 0o711);
    const root = join(outer, 'state');
    await openStateRoot(root, systemRandom);
    const operation = join(root, 'ops/op-1');
    await mkdir(operation, { mode: passageMode() });
    await makeQemuDirectory(join(operation, 'qemu'));
    const asQemu = (script: string): number => {
      try {
        execFileSync('setpriv', ['--reuid', 'libvirt-qemu', '--clear-groups', '--', 'sh', '-c', script], {
          stdio: 'ignore',
        });
        return 0;
      } catch (error) {
        return (error as { status: number }).status;
      }
    };
    expect(asQemu(`touch ${operation}/qemu/socket`)).toBe(0);
    expect(asQemu(`touch ${operation}/file`)).not.toBe(0);
    expect(asQemu(`ls ${root}/ops`)).not.toBe(0);
    expect(asQemu(`ls ${root}/exports`)).not.toBe(0);
    expect(asQemu(`cat ${root}/host-id`)).not.toBe(0);
  });
});
