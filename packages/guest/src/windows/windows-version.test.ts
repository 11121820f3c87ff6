import { describe, expect, it } from 'vitest';
import { compareCloseness, isFor, parseTargetVersion, type WindowsVersion } from './windows-version.ts';

const windows = (version: string, more: Partial<WindowsVersion> = {}): WindowsVersion => {
  const [major = 0, minor = 0, build = 0] = version.split('.').map(Number);
  return { major, minor, build, architecture: 'amd64', productType: 'workstation', ...more };
};

describe('the target of a models section', () => {
  it.each([
    ['NT', {}],
    ['NTamd64', { architecture: 'amd64' }],
    ['NTx86.5.1', { architecture: 'x86', major: 5, minor: 1 }],
    ['ntAMD64.6.0.1', { architecture: 'amd64', major: 6, minor: 0, productType: 'workstation' }],
    ['NTamd64.10.0...14393', { architecture: 'amd64', major: 10, minor: 0, build: 14393 }],
    ['NT.5.1.0x3.0x80', { major: 5, minor: 1, productType: 'server', suiteMask: 128 }],
    ['NTarm64.10.0', { architecture: 'arm64', major: 10, minor: 0 }],
    ['NTalpha', undefined],
    ['NTamd64.six', undefined],
    ['NTamd64.6.1.9', undefined],
    ['Vista', undefined],
    ['NTamd64.1.2.3.4.5.6', undefined],
  ])('%s is read', (text, target) => {
    expect(parseTargetVersion(text)).toEqual(target);
  });

  it.each([
    ['NTamd64', windows('10.0.19045'), true],
    ['NTamd64.6.1', windows('10.0.19045'), true],
    ['NTamd64.10.0', windows('6.1.7601'), false],
    ['NTamd64.10.0...17763', windows('10.0.14393'), false],
    ['NTamd64.10.0...14393', windows('10.0.17763'), true],
    ['NTamd64.6.1.3', windows('6.1.7601'), false],
    ['NTamd64.6.1.3', windows('6.1.7601', { productType: 'server' }), true],
    ['NTamd64.6.1..0x80', windows('6.1.7601'), false],
    ['NTx86', windows('10.0.19045'), false],
    // Without an architecture it is of x86.
    ['NT', windows('10.0.19045'), false],
    ['NT.5.1', windows('5.1.2600', { architecture: 'x86' }), true],
    ['NTamd64.6.2', windows('6.1.7601'), false],
  ])('%s is for that Windows or not', (text, version, taken) => {
    expect(isFor(parseTargetVersion(text) ?? {}, version)).toBe(taken);
  });

  it('is closer the newer its version, then by what else it says', () => {
    const order = [
      'NT',
      'NTamd64',
      'NTamd64.5.2',
      'NTamd64.6.1',
      'NTamd64.6.1.3',
      'NTamd64.10.0',
      'NTamd64.10.0...14393',
    ];
    const targets = order.map((text) => parseTargetVersion(text) ?? {});
    expect(targets.toReversed().toSorted(compareCloseness)).toEqual(targets);
  });
});
