package points.example;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Deadline;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import java.util.Optional;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import points.v1.Common.CustomerIdentifier;
import points.v1.Common.StatusItem;
import points.v1.Common.StatusPayload;
import points.v1.Common.WalletBalance;
import points.v1.PointsServiceGrpc;
import points.v1.PointsServiceGrpc.PointsServiceBlockingStub;
import points.v1.PointsServiceOuterClass.CheckTransferRequest;
import points.v1.PointsServiceOuterClass.TransferPointsRequest;
import points.v1.PointsServiceOuterClass.TransferPointsResponse;
import points.v1.WalletServiceGrpc;
import points.v1.WalletServiceGrpc.WalletServiceBlockingStub;
import points.v1.WalletServiceOuterClass.GetWalletRequest;

/**
 * Transfers points, is refused with its numbers, meets a warning, and prints the wallets: see ../README.md.
 *
 * <p>mvn package && java -cp 'target/*:target/lib/*' points.example.Transfer --address 127.0.0.1:50051 --token pk_...
 */
public final class Transfer {
  private static final long PROGRAM = 973;
  private static final String SENDER = "565039505";
  private static final String RECEIVER = "565039506";
  private static final long TIMEOUT_S = 10; // of a call with all its attempts
  private static final int ATTEMPTS_MAX = 8;
  private static final Set<Status.Code> AGAIN = Set.of(Status.Code.UNAVAILABLE, Status.Code.CANCELLED);

  private final PointsServiceBlockingStub points;
  private final WalletServiceBlockingStub wallets;

  private Transfer(ManagedChannel channel, String token) {
    Metadata headers = new Metadata();
    headers.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + token);
    var identity = MetadataUtils.newAttachHeadersInterceptor(headers);
    points = PointsServiceGrpc.newBlockingStub(channel).withInterceptors(identity);
    wallets = WalletServiceGrpc.newBlockingStub(channel).withInterceptors(identity);
  }

  public static void main(String[] arguments) throws InterruptedException {
    String address = option(arguments, "--address", "127.0.0.1:50051");
    // Plaintext is for loopback: leave usePlaintext out elsewhere.
    ManagedChannel channel = ManagedChannelBuilder.forTarget(address).usePlaintext().build();
    try {
      new Transfer(channel, option(arguments, "--token", "")).run();
    } finally {
      channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    }
  }

  private void run() {
    TransferPointsResponse answer = transfer(1000);
    say(
        "{\"step\":\"transfer\",\"points\":\"%d\",\"replayed\":%b}",
        answer.getData(0).getPointsTransferred(), answer.getReplayed());

    sayRefusal();

    CheckTransferRequest check =
        CheckTransferRequest.newBuilder()
            .setPointsToBeTransferred(10)
            .setProgramId(PROGRAM)
            .setFromCustomerIdentifier(customer(RECEIVER)) // who has no address that a code could be sent to
            .setToCustomerIdentifier(customer(SENDER))
            .setIssueOtp(true)
            .setRequestId(UUID.randomUUID().toString())
            .build();
    for (StatusItem warning : repeated(d -> points.withDeadline(d).checkTransfer(check)).getWarningsList()) {
      say(
          "{\"step\":\"warning\",\"code\":%d,\"reason\":\"%s\",\"message\":\"%s\"}",
          warning.getCode(), warning.getReason(), warning.getMessage());
    }

    for (String id : new String[] {SENDER, RECEIVER}) {
      GetWalletRequest request =
          GetWalletRequest.newBuilder().setCustomerIdentifier(customer(id)).setProgramId(PROGRAM).build();
      WalletBalance wallet = repeated(d -> wallets.withDeadline(d).getWallet(request)).getWallet();
      say(
          "{\"step\":\"wallet\",\"customer_id\":\"%d\",\"current\":\"%d\",\"redeemable\":\"%d\",\"transferable\":\"%d\"}",
          wallet.getCustomerId(), wallet.getCurrent(), wallet.getRedeemable(), wallet.getTransferable());
    }
  }

  /** Asks for more than there is, and prints by how much. */
  private void sayRefusal() {
    try {
      transfer(9000);
      throw new IllegalStateException("expected a refusal for want of points");
    } catch (StatusRuntimeException error) {
      ErrorInfo info = detail(error, ErrorInfo.class).orElseThrow(() -> error);
      if (!info.getReason().equals("TRANSFER_INSUFFICIENT_POINTS")) {
        throw error;
      }
      StatusItem item = detail(error, StatusPayload.class).orElseThrow(() -> error).getErrors(0);
      say(
          "{\"step\":\"refusal\",\"code\":%d,\"reason\":\"%s\",\"points\":\"%s\",\"current\":\"%s\",\"short_by\":\"%s\"}",
          item.getCode(),
          info.getReason(),
          info.getMetadataOrThrow("points"),
          info.getMetadataOrThrow("current"),
          info.getMetadataOrThrow("short_by"));
    }
  }

  /** Makes the request once, with its request id; every attempt sends this one. */
  private TransferPointsResponse transfer(long amount) {
    TransferPointsRequest request =
        TransferPointsRequest.newBuilder()
            .setPointsToBeTransferred(amount)
            .setProgramId(PROGRAM)
            .setFromCustomerIdentifier(customer(SENDER))
            .setToCustomerIdentifier(customer(RECEIVER))
            .setRequestId(UUID.randomUUID().toString())
            .build();
    return repeated(d -> points.withDeadline(d).transferPoints(request));
  }

  /**
   * Calls until there is an answer: UNAVAILABLE, and what the server ended unseen, is sent again as it is, since its
   * request id makes that safe.
   */
  private static <A> A repeated(Function<Deadline, A> call) {
    Deadline deadline = Deadline.after(TIMEOUT_S, TimeUnit.SECONDS);
    long pauseMs = 100;
    for (int attempt = 1; ; attempt++) {
      try {
        return call.apply(deadline);
      } catch (StatusRuntimeException error) {
        long waitMs = Math.max(pauseMs, toldMs(error));
        boolean again = AGAIN.contains(error.getStatus().getCode()) && attempt < ATTEMPTS_MAX;
        if (!again || waitMs >= deadline.timeRemaining(TimeUnit.MILLISECONDS)) {
          throw error;
        }
        try {
          Thread.sleep(waitMs);
        } catch (InterruptedException interrupted) {
          Thread.currentThread().interrupt();
          throw error;
        }
        pauseMs *= 2;
      }
    }
  }

  /** The pause that the server asks for. */
  private static long toldMs(StatusRuntimeException error) {
    return detail(error, RetryInfo.class)
        .map(retry -> retry.getRetryDelay().getSeconds() * 1000 + retry.getRetryDelay().getNanos() / 1_000_000)
        .orElse(0L);
  }

  /** The detail of a type, if the status has one. */
  private static <D extends Message> Optional<D> detail(StatusRuntimeException error, Class<D> type) {
    com.google.rpc.Status status = StatusProto.fromThrowable(error);
    if (status == null) {
      return Optional.empty();
    }
    for (Any one : status.getDetailsList()) {
      if (one.is(type)) {
        try {
          return Optional.of(one.unpack(type));
        } catch (InvalidProtocolBufferException broken) {
          throw new IllegalStateException(broken);
        }
      }
    }
    return Optional.empty();
  }

  private static CustomerIdentifier customer(String id) {
    return CustomerIdentifier.newBuilder().setType(CustomerIdentifier.Type.ID).setValue(id).build();
  }

  private static String option(String[] arguments, String name, String otherwise) {
    for (int i = 0; i + 1 < arguments.length; i++) {
      if (arguments[i].equals(name)) {
        return arguments[i + 1];
      }
    }
    return otherwise;
  }

  private static void say(String format, Object... values) {
    System.out.println(String.format(format, values));
  }
}
