// Transfers points, is refused with its numbers, meets a warning, and prints the wallets: see ../README.md.
//
//     npm install && npm run build && npm start -- --address 127.0.0.1:50051 --token pk_...

import * as grpc from '@grpc/grpc-js';
import * as loader from '@grpc/proto-loader';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';

import type { ProtoGrpcType } from './gen/points_service';
import type { ProtoGrpcType as WalletGrpcType } from './gen/wallet_service';
import type { CheckTransferResponse__Output } from './gen/points/v1/CheckTransferResponse';
import type { GetWalletResponse__Output } from './gen/points/v1/GetWalletResponse';
import type { StatusItem__Output } from './gen/points/v1/StatusItem';
import type { TransferPointsResponse__Output } from './gen/points/v1/TransferPointsResponse';

const PROGRAM = 973;
const SENDER = '565039505';
const RECEIVER = '565039506';
const TIMEOUT_MS = 10_000; // of a call with all its attempts
const ATTEMPTS_MAX = 8;

// The options of proto-loader-gen-types in package.json are the same. `longs`: 64-bit integers do not fit into a Number.
const definition = loader.loadSync(['points/v1/points_service.proto', 'points/v1/wallet_service.proto'], {
  includeDirs: [join(__dirname, '..', '..', '..', 'protos')],
  keepCase: true,
  longs: String,
  enums: String,
  defaults: true,
  oneofs: true,
});
const protos = grpc.loadPackageDefinition(definition) as unknown as ProtoGrpcType & WalletGrpcType;

const { values: options } = parseArgs({
  options: { address: { type: 'string', default: '127.0.0.1:50051' }, token: { type: 'string', default: '' } },
});
// Plaintext is for loopback: use grpc.credentials.createSsl() elsewhere.
const plaintext = grpc.credentials.createInsecure();
const points = new protos.points.v1.PointsService(options.address, plaintext);
const wallets = new protos.points.v1.WalletService(options.address, plaintext);
const identity = new grpc.Metadata();
identity.set('authorization', `Bearer ${options.token}`);

async function main(): Promise<void> {
  const answer = await transfer(1000);
  say({ step: 'transfer', points: answer.data[0].points_transferred, replayed: answer.replayed });

  try {
    await transfer(9000);
    throw new Error('expected a refusal for want of points');
  } catch (error) {
    const refusal = refused(error);
    if (refusal?.reason !== 'TRANSFER_INSUFFICIENT_POINTS') throw error;
    const { points, current, short_by } = refusal.metadata;
    say({ step: 'refusal', code: refusal.code, reason: refusal.reason, points, current, short_by });
  }

  const check = {
    points_to_be_transferred: 10,
    program_id: PROGRAM,
    from_customer_identifier: { type: 'ID', value: RECEIVER }, // who has no address that a code could be sent to
    to_customer_identifier: { type: 'ID', value: SENDER },
    issue_otp: true,
    request_id: randomUUID(),
  } as const;
  const checked = await repeated<CheckTransferResponse__Output>((deadline, done) =>
    points.checkTransfer(check, identity, { deadline }, done),
  );
  for (const { code, reason, message } of checked.warnings) say({ step: 'warning', code, reason, message });

  for (const id of [SENDER, RECEIVER]) {
    const request = { customer_identifier: { type: 'ID', value: id }, program_id: PROGRAM } as const;
    const { wallet } = await repeated<GetWalletResponse__Output>((deadline, done) =>
      wallets.getWallet(request, identity, { deadline }, done),
    );
    if (wallet === null) throw new Error('a wallet without balances');
    const { customer_id, current, redeemable, transferable } = wallet;
    say({ step: 'wallet', customer_id, current, redeemable, transferable });
  }
}

/** Makes the request once, with its request id; every attempt sends this one. */
function transfer(amount: number): Promise<TransferPointsResponse__Output> {
  const request = {
    points_to_be_transferred: amount,
    program_id: PROGRAM,
    from_customer_identifier: { type: 'ID', value: SENDER },
    to_customer_identifier: { type: 'ID', value: RECEIVER },
    request_id: randomUUID(),
  } as const;
  return repeated((deadline, done) => points.transferPoints(request, identity, { deadline }, done));
}

type Done<A> = (error: grpc.ServiceError | null, answer?: A) => void;

const AGAIN = [grpc.status.UNAVAILABLE, grpc.status.CANCELLED];

/** Calls until there is an answer: UNAVAILABLE, and what the server ended unseen, is sent again as it is, since its
 * request id makes that safe. */
async function repeated<A>(call: (deadline: Date, done: Done<A>) => void): Promise<A> {
  const deadline = new Date(Date.now() + TIMEOUT_MS);
  for (let attempt = 1, pause = 100; ; attempt++, pause *= 2) {
    try {
      return await new Promise<A>((resolve, reject) =>
        call(deadline, (error, answer) => (error ? reject(error) : resolve(answer as A))),
      );
    } catch (error) {
      const wait = Math.max(pause, toldMs(error as grpc.ServiceError));
      const again = AGAIN.includes((error as grpc.ServiceError).code) && attempt < ATTEMPTS_MAX;
      if (!again || Date.now() + wait >= deadline.getTime()) throw error;
      await sleep(wait);
    }
  }
}

/** The pause that the server asks for. */
function toldMs(error: grpc.ServiceError): number {
  const [told] = error.metadata.get('grpc-retry-pushback-ms');
  return told === undefined ? 0 : Number(told);
}

/** The documented error of a refusal, with the numbers behind it. */
function refused(error: unknown): StatusItem__Output | undefined {
  const [raw] = (error as grpc.ServiceError).metadata?.get('grpc-status-details-bin') ?? [];
  if (!Buffer.isBuffer(raw)) return undefined;
  for (const detail of protos.google.rpc.Status.deserialize(raw).details) {
    if (detail.type_url.endsWith('/points.v1.StatusPayload')) {
      return protos.points.v1.StatusPayload.deserialize(detail.value as Buffer).errors[0];
    }
  }
  return undefined;
}

function say(line: object): void {
  console.log(JSON.stringify(line));
}

main()
  .catch((error: unknown) => {
    console.error(error);
    process.exitCode = 1;
  })
  .finally(() => {
    points.close();
    wallets.close();
  });
