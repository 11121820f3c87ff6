/**
 * What an INF says of the drivers in it, for one Windows.
 *
 *   [Version]        class, provider, date and version, catalogue
 *   [Manufacturer]   %Vendor% = Models, NTamd64.6.1, NTamd64.10.0
 *   [Models.NTamd64.10.0]
 *                    %Name% = Install, PCI\VEN_…, compatible ids …
 *   [Install.NTamd64]            CopyFiles, Include/Needs, FeatureScore
 *   [Install.NTamd64.Services]   AddService = name, flags, service section
 *
 * Of several models sections Windows takes the one whose decoration is closest to itself and looks into no other; an install section is the
 * one of its architecture, else `.NT`, else the one without a decoration.
 */
import type { InfFile, InfLine } from './inf-file.ts';
import { type InfRegistryValue, readAddedValues } from './inf-registry.ts';
import { infInvalid } from './inf-text.ts';
import {
  compareCloseness,
  isFor,
  parseTargetVersion,
  type TargetVersion,
  type WindowsVersion,
} from './windows-version.ts';

export interface DriverVersion {
  /** Year, month, day; zeros where the file gives none. */
  readonly date: readonly [number, number, number];
  /** Up to four numbers. */
  readonly version: readonly number[];
}

export interface InfHeader {
  readonly provider: string;
  /** As the file writes it: `SCSIAdapter`, `hdc`, `Net`. */
  readonly className: string;
  /** `{4d36e97b-…}` in lower case. */
  readonly classGuid: string;
  readonly driverVersion: DriverVersion;
  /** Catalogue file of an architecture (`ntamd64`), of all NT (`nt`), or without a decoration (`''`). */
  readonly catalogues: Readonly<Record<string, string>>;
}

export interface DriverModel {
  readonly description: string;
  readonly manufacturer: string;
  /** Name of the install section, without decoration. */
  readonly install: string;
  /** In upper case; the first is the hardware id, those after it are compatible ids. The first may be empty. */
  readonly ids: readonly string[];
}

export interface DriverService {
  readonly name: string;
  /** SPSVCINST_ASSOCSERVICE: the service that is the function driver of the device. */
  readonly isAssociated: boolean;
  /** Name of the file that is the driver: the last part of ServiceBinary. */
  readonly binary: string;
  /** As in the registry: 0 boot, 1 system, 2 automatic, 3 on demand, 4 disabled. */
  readonly startType: number;
  readonly serviceType: number;
  readonly errorControl: number;
  readonly loadOrderGroup: string;
  /** What AddReg of the service writes below its key. */
  readonly registry: readonly InfRegistryValue[];
}

export interface DriverFile {
  /** Path in the package, with slashes, as [SourceDisksNames] and [SourceDisksFiles] give it. */
  readonly source: string;
  readonly target: string;
  /** Number of a directory (12 is system32\drivers, 13 the driver store), and what follows it. */
  readonly directory: { readonly id: number; readonly subdirectory: string };
}

export interface DriverInstall {
  /** As it was chosen, with decoration. */
  readonly section: string;
  readonly services: readonly DriverService[];
  readonly files: readonly DriverFile[];
  /** 0 best to 255; 255 where the file gives none. */
  readonly featureScore: number;
  /** `storport.inf: storport_install` of Include and Needs: what the Windows that is there has to bring. */
  readonly needs: readonly { readonly inf: string; readonly section: string }[];
}

const SPSVCINST_ASSOCSERVICE = 0x2;
/** Winnt.h and the registry's defaults. */
const SERVICE_KERNEL_DRIVER = 1;
const SERVICE_DEMAND_START = 3;
const SERVICE_ERROR_NORMAL = 1;
const NO_FEATURE_SCORE = 0xff;
/** "DestinationDirs": where files go that no line says otherwise of. */
const DEFAULT_DIRECTORY = 'DefaultDestDir';
/** Ids are compared as strings; a longer one than MAX_DEVICE_ID_LEN (200) cannot match. */
const MAX_ID_CHARACTERS = 200;

/** Errors: `guest.inf-invalid` where it is no INF of a driver. */
export function readHeader(inf: InfFile): InfHeader {
  const signature = inf.value('Version', 'Signature')?.toUpperCase();
  if (signature !== '$WINDOWS NT$' && signature !== '$CHICAGO$') {
    throw infInvalid(inf.source, `[Version] has no Signature that Windows knows (${signature ?? 'none'})`);
  }
  const classGuid = inf.value('Version', 'ClassGUID')?.toLowerCase() ?? '';
  if (!/^\{[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\}$/.test(classGuid)) {
    throw infInvalid(inf.source, `[Version] has no ClassGUID of the usual form ('${classGuid}')`);
  }
  const catalogues: Record<string, string> = {};
  for (const { key, values } of inf.lines('Version')) {
    const decoration = /^catalogfile(?:\.(\w+))?$/i.exec(key ?? '');
    if (decoration && values[0]) catalogues[decoration[1]?.toLowerCase() ?? ''] = values[0];
  }
  return {
    provider: inf.value('Version', 'Provider') ?? '',
    className: inf.value('Version', 'Class') ?? '',
    classGuid,
    driverVersion: driverVersionOf(inf.values('Version', 'DriverVer') ?? []),
    catalogues,
  };
}

/** The models this Windows would see, in the file's order. */
export function readModels(inf: InfFile, windows: WindowsVersion): DriverModel[] {
  return inf.lines('Manufacturer').flatMap((line) => {
    const section = modelsSection(inf, line, windows);
    const manufacturer = line.key ?? line.values[0] ?? '';
    return section === undefined
      ? []
      : inf.lines(section).flatMap(({ key, values }): DriverModel[] => {
          const [install = '', ...ids] = values;
          if (key === undefined || install === '') return [];
          const named = ids.map((id) => id.toUpperCase()).filter((id) => id.length <= MAX_ID_CHARACTERS);
          return [{ description: key, manufacturer, install, ids: named }];
        });
  });
}

/** Every model of the file, whatever Windows it is for, with what its section is for: to show what a package holds. */
export function readAllModels(inf: InfFile): { readonly target: TargetVersion; readonly model: DriverModel }[] {
  const all: { target: TargetVersion; model: DriverModel }[] = [];
  for (const line of inf.lines('Manufacturer')) {
    const name = line.values[0] ?? '';
    for (const { section, target } of candidates(name, line.values.slice(1))) {
      for (const { key, values } of inf.lines(section)) {
        const [install = '', ...ids] = values;
        if (key === undefined || install === '') continue;
        const model = {
          description: key,
          manufacturer: line.key ?? name,
          install,
          ids: ids.map((id) => id.toUpperCase()),
        };
        all.push({ target, model });
      }
    }
  }
  return all;
}

/** What is installed for a model. Nothing: its install section is not there. */
export function readInstall(inf: InfFile, model: DriverModel, windows: WindowsVersion): DriverInstall | undefined {
  const section = decorated(inf, model.install, windows);
  if (section === undefined) return undefined;
  const include = inf.values(section, 'Include') ?? [];
  const needs = inf.values(section, 'Needs') ?? [];
  // A section that is needed may be of this file, too; then its files are ours.
  const own = needs.filter((needed) => decorated(inf, needed, windows) !== undefined);
  const sections = [section, ...own.flatMap((needed) => decorated(inf, needed, windows) ?? [])];
  return {
    section,
    services: [...new Set([`${section}.Services`, ...own.map((needed) => `${needed}.Services`)])].flatMap((name) =>
      readServices(inf, name),
    ),
    files: sections.flatMap((from) => readFiles(inf, from, windows)),
    featureScore: featureScoreOf(inf.value(section, 'FeatureScore')),
    needs: needs
      .filter((needed) => !own.includes(needed))
      .map((needed) => ({ inf: include.join(', ').toLowerCase(), section: needed })),
  };
}

function modelsSection(inf: InfFile, line: InfLine, windows: WindowsVersion): string | undefined {
  const [name = '', ...decorations] = line.values;
  return candidates(name, decorations)
    .filter(({ section, target }) => isFor(target, windows) && inf.has(section))
    .reduce<ReturnType<typeof candidates>[number] | undefined>(
      (best, candidate) =>
        best === undefined || compareCloseness(candidate.target, best.target) > 0 ? candidate : best,
      undefined,
    )?.section;
}

/** The section without decoration is always one of them. Decorations that cannot be read are for a Windows that is not known here. */
function candidates(name: string, decorations: readonly string[]): { section: string; target: TargetVersion }[] {
  return [
    { section: name, target: {} },
    ...decorations.flatMap((decoration) => {
      const target = parseTargetVersion(decoration);
      return target === undefined ? [] : [{ section: `${name}.${decoration.trim()}`, target }];
    }),
  ];
}

function decorated(inf: InfFile, section: string, { architecture }: WindowsVersion): string | undefined {
  return [`${section}.NT${architecture}`, `${section}.NT`, section].find((name) => inf.has(name));
}

function readServices(inf: InfFile, section: string): DriverService[] {
  return inf.lines(section).flatMap(({ key, values }): DriverService[] => {
    const [name = '', flags = '', install = ''] = values;
    if (key?.toLowerCase() !== 'addservice' || name === '' || install === '') return [];
    const number = (field: string, otherwise: number): number => integer(inf.value(install, field)) ?? otherwise;
    return [
      {
        name,
        isAssociated: ((integer(flags) ?? 0) & SPSVCINST_ASSOCSERVICE) !== 0,
        binary: (inf.value(install, 'ServiceBinary') ?? '').split('\\').at(-1) ?? '',
        startType: number('StartType', SERVICE_DEMAND_START),
        serviceType: number('ServiceType', SERVICE_KERNEL_DRIVER),
        errorControl: number('ErrorControl', SERVICE_ERROR_NORMAL),
        loadOrderGroup: inf.value(install, 'LoadOrderGroup') ?? '',
        registry: readAddedValues(inf, install),
      },
    ];
  });
}

function readFiles(inf: InfFile, section: string, windows: WindowsVersion): DriverFile[] {
  return inf
    .lines(section)
    .filter(({ key }) => key?.toLowerCase() === 'copyfiles')
    .flatMap(({ values }) => values)
    .filter((list) => list !== '')
    .flatMap((list) => {
      // `@file` names a single one.
      if (list.startsWith('@')) return [fileOf(inf, { list: DEFAULT_DIRECTORY, line: [list.slice(1)], windows })];
      const lines = inf.lines(list).map(({ key, values }) => (key === undefined ? values : [key]));
      return lines.filter(([name = '']) => name !== '').map((line) => fileOf(inf, { list, line, windows }));
    });
}

function fileOf(
  inf: InfFile,
  { list, line, windows }: { list: string; line: readonly string[]; windows: WindowsVersion },
): DriverFile {
  const [target = '', source = ''] = line;
  const [id = '', subdirectory = ''] =
    inf.values('DestinationDirs', list) ?? inf.values('DestinationDirs', DEFAULT_DIRECTORY) ?? [];
  return {
    target,
    source: sourcePath(inf, source === '' ? target : source, windows),
    directory: { id: integer(id) ?? 0, subdirectory },
  };
}

/** [SourceDisksFiles] `name = disk, subdirectory`; [SourceDisksNames] `disk = description, tag, unused, path`. Those of an architecture go first. */
function sourcePath(inf: InfFile, name: string, { architecture }: WindowsVersion): string {
  const of = (section: string, key: string): readonly string[] | undefined =>
    inf.values(`${section}.${architecture}`, key) ?? inf.values(section, key);
  const [disk = '', subdirectory = ''] = of('SourceDisksFiles', name) ?? [];
  const path = disk === '' ? '' : (of('SourceDisksNames', disk)?.[3] ?? '');
  return [path, subdirectory, name]
    .flatMap((part) => part.split(/[\\/]/))
    .filter((part) => part !== '' && part !== '.')
    .join('/');
}

/** `MM/DD/YYYY, a.b.c.d`. */
function driverVersionOf([date = '', version = '']: readonly string[]): DriverVersion {
  const [, month = '0', day = '0', year = '0'] = /^\s*(\d{1,2})[/-](\d{1,2})[/-](\d{4})\s*$/.exec(date) ?? [];
  const numbers = version.split('.').map((part) => Number.parseInt(part, 10));
  return {
    date: [Number(year), Number(month), Number(day)],
    version: numbers.some(Number.isNaN) ? [] : numbers.slice(0, 4),
  };
}

function featureScoreOf(text: string | undefined): number {
  const score = integer(text);
  return score === undefined || score < 0 || score > NO_FEATURE_SCORE ? NO_FEATURE_SCORE : score;
}

function integer(text: string | undefined): number | undefined {
  const trimmed = text?.trim() ?? '';
  return /^(?:0x[0-9a-f]{1,8}|\d{1,10})$/i.test(trimmed) ? Number(trimmed) : undefined;
}
