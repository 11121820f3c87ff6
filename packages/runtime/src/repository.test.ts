import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLog } from '@lifeboat/foundation/log';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadConfiguration } from './configuration.ts';
import { infoOf, initConfigured, printKey } from './repository-admin.ts';
import { openConfiguredRepository, openOrMakeRepository } from './repository.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lifeboat-repository-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

describe('the repository of a first backup', () => {
  it('is made once; an empty mount point where it was is left empty', async () => {
    const place = join(directory, 'usb');
    const environment = { LIFEBOAT_STATE: join(directory, 'state'), LIFEBOAT_REPOSITORY: place };
    const configuration = loadConfiguration({ environment });
    const open = async (): Promise<string> => {
      const repository = await openOrMakeRepository(configuration, { log: silentLog });
      await repository.close();
      return repository.repositoryId;
    };
    const id = await open();
    renameSync(place, `${place}-pulled-out`);
    for (const leave of [() => {}, () => mkdirSync(place)]) {
      leave();
      await expect(open()).rejects.toMatchObject({ code: 'repository.store-unreachable' });
    }
    expect(readdirSync(place)).toEqual([]);
    rmSync(place, { recursive: true });
    renameSync(`${place}-pulled-out`, place);
    expect(await open()).toBe(id);
  });
});

describe('a key that is printed', () => {
  it('is in a private file that opens the repository; a page that cannot be written leaves no way in', async () => {
    const environment = { LIFEBOAT_STATE: join(directory, 'state') };
    const configuration = loadConfiguration({ environment });
    await initConfigured(configuration, {});
    const path = join(directory, 'page.txt');
    const full = {
      path,
      render: (): string => {
        throw new Error('disk full');
      },
    };
    await expect(printKey(configuration, { label: 'safe', output: full })).rejects.toThrow('disk full');
    expect(existsSync(path)).toBe(false);
    const kinds = async (): Promise<string[] | undefined> =>
      (await infoOf(configuration)).tenants[0]?.slots.map(({ kind }) => kind);
    expect(await kinds()).toEqual(['key file']);

    await printKey(configuration, { label: 'safe', output: { path, render: ({ lines }) => lines.join('\n') } });
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(await kinds()).toEqual(['key file', 'paper']);
    const onPaper = loadConfiguration({ environment: { ...environment, LIFEBOAT_PAPER_FILE: path } });
    const opened = await openConfiguredRepository(onPaper, { log: silentLog });
    await opened.close();

    writeFileSync(path, 'something else');
    const again = printKey(configuration, { label: 'safe', output: { path, render: () => '' } });
    await expect(again).rejects.toMatchObject({ code: 'input.invalid' });
    expect(statSync(path).size).toBe(14);
  });
});
