/** How long a read of 4 KiB takes through the block reader of a recovery point: from a directory and over S3, cold and warm. */
import { rm } from 'node:fs/promises';
import { describeImage, type BenchOptions, RepositoryBench } from '../repository/repository-bench.ts';
import type { RepositoryReport } from '../repository/repository-process.ts';
import { type Figure, median } from '../series.ts';

const READS = 1000;
const STORES = [
  { label: 'directory', overS3: false },
  { label: 'S3', overS3: true },
] as const;

export async function repositoryReadsFigure(options: BenchOptions): Promise<Figure> {
  const { repeat, say } = options;
  const bench = await RepositoryBench.open(options);
  try {
    const image = await bench.image();
    const { path: allocationPath } = await bench.allocation(image);
    const directory = await bench.freshDirectory('reads');
    const request = { directory, imagePath: image.path, allocationPath } as const;
    say('backing up what is read');
    await bench.ours({ ...request, verb: 'init' });
    await bench.ours({ ...request, verb: 'backup' });
    const reports = new Map<string, RepositoryReport[]>(STORES.map(({ label }) => [label, []]));
    for (let round = 0; round < repeat; round++) {
      for (const { label, overS3 } of round % 2 === 0 ? STORES : STORES.toReversed()) {
        say(`round ${round + 1} of ${repeat}: ${label}`);
        const { report } = await bench.ours({ ...request, verb: 'reads', count: READS, overS3 });
        reports.get(label)?.push(report);
      }
    }
    await rm(directory, { recursive: true });
    return {
      title: 'Random reads of 4 KiB from a recovery point',
      method: [
        describeImage(image),
        bench.placeSentence,
        `${READS} reads of 4 KiB at random places that hold data, one after the other, ${repeat} rounds by turns; medians of the rounds`,
        'Warm: one process, after as many reads that are not timed. Cold: the repository is opened anew for each read (that is not timed), so that neither pages of the map nor keys of packs nor chunks are in memory; the page cache of the machine holds the files in both',
        'S3: versitygw on this machine over the same files, each request over HTTP with its signature',
      ],
      tables: [
        {
          head: [
            'milliseconds',
            'warm p50',
            'warm p99',
            'cold p50',
            'cold p99',
            'peak memory, MB',
            'cold p50, in order',
          ],
          rows: [...reports].map(([label, all]) => [
            label,
            ...(['p50Ms', 'p99Ms', 'coldP50Ms', 'coldP99Ms'] as const).map((key) =>
              median(all.map((report) => report[key] ?? Number.NaN)).toFixed(2),
            ),
            (Math.max(...all.map(({ peakBytes }) => peakBytes)) / 1e6).toFixed(0),
            all.map(({ coldP50Ms = Number.NaN }) => coldP50Ms.toFixed(2)).join(', '),
          ]),
        },
      ],
      series: [],
      verdicts: [],
    };
  } finally {
    await bench.close();
  }
}
