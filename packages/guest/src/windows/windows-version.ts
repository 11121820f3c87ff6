/** Which Windows it is, as far as drivers depend on it. */

export const windowsArchitectures = ['x86', 'amd64', 'ia64', 'arm', 'arm64'] as const;
export type WindowsArchitecture = (typeof windowsArchitectures)[number];

export interface WindowsVersion {
  /** 5.1 is XP, 5.2 Server 2003 and XP x64, 6.0 Vista, 6.1 Windows 7, 6.2 and 6.3 Windows 8 and 8.1, 10.0 everything since. */
  readonly major: number;
  readonly minor: number;
  readonly build: number;
  readonly architecture: WindowsArchitecture;
  /** VER_NT_WORKSTATION, VER_NT_DOMAIN_CONTROLLER, VER_NT_SERVER of winnt.h. */
  readonly productType: 'workstation' | 'domain-controller' | 'server';
}

const PRODUCT_TYPES: Readonly<Record<number, WindowsVersion['productType']>> = {
  1: 'workstation',
  2: 'domain-controller',
  3: 'server',
};

/** What a section of an INF is for, from its name: `NTamd64.10.0...14393`. Absent fields say nothing. */
export interface TargetVersion {
  readonly architecture?: WindowsArchitecture;
  readonly major?: number;
  readonly minor?: number;
  readonly productType?: WindowsVersion['productType'];
  readonly suiteMask?: number;
  readonly build?: number;
}

/** `NT[architecture][.[major][.[minor][.[product type][.[suite mask][.[build]]]]]]`; nothing where it is not of that form. */
export function parseTargetVersion(text: string): TargetVersion | undefined {
  const [head = '', ...fields] = text.trim().toLowerCase().split('.');
  if (!head.startsWith('nt') || fields.length > 5) return undefined;
  const named = head.slice(2);
  const architecture = windowsArchitectures.find((known) => known === named);
  if (named !== '' && architecture === undefined) return undefined;
  const numbers = fields.map((field) => (field === '' ? undefined : numberOf(field)));
  if (numbers.includes(Number.NaN)) return undefined;
  const [major, minor, product, suiteMask, build] = numbers;
  const productType = product === undefined ? undefined : PRODUCT_TYPES[product];
  if (product !== undefined && productType === undefined) return undefined;
  return {
    ...(architecture === undefined ? {} : { architecture }),
    ...(major === undefined ? {} : { major }),
    ...(minor === undefined ? {} : { minor }),
    ...(productType === undefined ? {} : { productType }),
    ...(suiteMask === undefined ? {} : { suiteMask }),
    ...(build === undefined ? {} : { build }),
  };
}

/**
 * Whether Windows would take a models section of that target. A suite (Small Business, Embedded, ...) is not known of an image, so a target
 * that asks for one is not taken. Sections without an architecture are of x86 since Server 2003 SP1.
 */
export function isFor(target: TargetVersion, windows: WindowsVersion): boolean {
  const { architecture = 'x86', major, minor = 0, productType, suiteMask, build = 0 } = target;
  if (architecture !== windows.architecture) return false;
  if (productType !== undefined && productType !== windows.productType) return false;
  if (suiteMask !== undefined && suiteMask !== 0) return false;
  return (
    major === undefined || compareNumbers([major, minor, build], [windows.major, windows.minor, windows.build]) <= 0
  );
}

/** Positive: `a` says more closely than `b` what it is for. Windows takes the newest version that is not too new, then the product type. */
export function compareCloseness(a: TargetVersion, b: TargetVersion): number {
  const versionOf = ({ major = -1, minor = 0, build = 0 }: TargetVersion): number[] => [major, minor, build];
  const byVersion = compareNumbers(versionOf(a), versionOf(b));
  if (byVersion !== 0) return byVersion;
  const said = ({ productType, architecture }: TargetVersion): number[] => [
    productType === undefined ? 0 : 1,
    architecture === undefined ? 0 : 1,
  ];
  return compareNumbers(said(a), said(b));
}

export function compareNumbers(a: readonly number[], b: readonly number[]): number {
  for (let i = 0; i < Math.max(a.length, b.length); i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

function numberOf(text: string): number {
  return /^(?:0x[0-9a-f]{1,8}|\d{1,9})$/.test(text) ? Number(text) : Number.NaN;
}
