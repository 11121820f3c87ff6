import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLog } from '@lifeboat/foundation/log';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadConfiguration } from './configuration.ts';
import { openOrMakeRepository } from './repository.ts';

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
