// Transfers points, is refused with its numbers, meets a warning, and prints the wallets: see ../README.md.
//
//	go generate ./... && go run . --address 127.0.0.1:50051 --token pk_...
package main

//go:generate buf generate

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pointsv1 "points.example/transfer/gen/points/v1"
)

const (
	program     = 973
	sender      = "565039505"
	receiver    = "565039506"
	timeout     = 10 * time.Second // of a call with all its attempts
	attemptsMax = 8
)

func main() {
	address := flag.String("address", "127.0.0.1:50051", "where the server listens")
	token := flag.String("token", "", "the API key")
	flag.Parse()

	// Plaintext is for loopback: use credentials.NewTLS elsewhere.
	connection, err := grpc.NewClient(*address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	ctx := metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+*token)
	if err := run(ctx, pointsv1.NewPointsServiceClient(connection), pointsv1.NewWalletServiceClient(connection)); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, points pointsv1.PointsServiceClient, wallets pointsv1.WalletServiceClient) error {
	answer, err := transfer(ctx, points, 1000)
	if err != nil {
		return err
	}
	say(struct {
		Step     string `json:"step"`
		Points   int64  `json:"points,string"`
		Replayed bool   `json:"replayed"`
	}{"transfer", answer.Data[0].PointsTransferred, answer.Replayed})

	_, err = transfer(ctx, points, 9000)
	refusal, numbers := refused(err)
	if refusal.GetReason() != "TRANSFER_INSUFFICIENT_POINTS" {
		return fmt.Errorf("expected a refusal for want of points: %w", err)
	}
	say(struct {
		Step    string `json:"step"`
		Code    int32  `json:"code"`
		Reason  string `json:"reason"`
		Points  string `json:"points"`
		Current string `json:"current"`
		ShortBy string `json:"short_by"`
	}{"refusal", refusal.Code, refusal.Reason, numbers["points"], numbers["current"], numbers["short_by"]})

	check, err := repeated(ctx, func(ctx context.Context) (*pointsv1.CheckTransferResponse, error) {
		return points.CheckTransfer(ctx, &pointsv1.CheckTransferRequest{
			PointsToBeTransferred:  10,
			ProgramId:              program,
			FromCustomerIdentifier: customer(receiver), // who has no address that a code could be sent to
			ToCustomerIdentifier:   customer(sender),
			IssueOtp:               true,
		})
	})
	if err != nil {
		return err
	}
	for _, warning := range check.Warnings {
		say(struct {
			Step    string `json:"step"`
			Code    int32  `json:"code"`
			Reason  string `json:"reason"`
			Message string `json:"message"`
		}{"warning", warning.Code, warning.Reason, warning.Message})
	}
	for _, id := range []string{sender, receiver} {
		if err := sayWallet(ctx, wallets, id); err != nil {
			return err
		}
	}
	return nil
}

// transfer makes the request once, with its request id; every attempt sends this one.
func transfer(ctx context.Context, points pointsv1.PointsServiceClient, amount int64) (*pointsv1.TransferPointsResponse, error) {
	request := &pointsv1.TransferPointsRequest{
		PointsToBeTransferred:  amount,
		ProgramId:              program,
		FromCustomerIdentifier: customer(sender),
		ToCustomerIdentifier:   customer(receiver),
		RequestId:              rand.Text(),
	}
	return repeated(ctx, func(ctx context.Context) (*pointsv1.TransferPointsResponse, error) {
		return points.TransferPoints(ctx, request)
	})
}

// repeated calls until there is an answer: UNAVAILABLE, and what the server ended unseen, is sent again as it is, since
// its request id makes that safe.
func repeated[A any](ctx context.Context, call func(context.Context) (A, error)) (A, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	pause := 100 * time.Millisecond
	for attempt := 1; ; attempt++ {
		answer, err := call(ctx)
		code := status.Code(err)
		if (code != codes.Unavailable && code != codes.Canceled) || attempt == attemptsMax {
			return answer, err
		}
		select {
		case <-ctx.Done():
			return answer, err
		case <-time.After(max(pause, told(err))):
			pause *= 2
		}
	}
}

// told is the pause that the server asks for.
func told(err error) time.Duration {
	for _, detail := range status.Convert(err).Details() {
		if retry, ok := detail.(*errdetails.RetryInfo); ok {
			return retry.RetryDelay.AsDuration()
		}
	}
	return 0
}

// refused is the documented error of a refusal, and the numbers behind it.
func refused(err error) (*pointsv1.StatusItem, map[string]string) {
	var item *pointsv1.StatusItem
	var numbers map[string]string
	for _, detail := range status.Convert(err).Details() {
		switch detail := detail.(type) {
		case *pointsv1.StatusPayload:
			item = detail.Errors[0]
		case *errdetails.ErrorInfo:
			numbers = detail.Metadata
		}
	}
	return item, numbers
}

func sayWallet(ctx context.Context, wallets pointsv1.WalletServiceClient, id string) error {
	answer, err := repeated(ctx, func(ctx context.Context) (*pointsv1.GetWalletResponse, error) {
		return wallets.GetWallet(ctx, &pointsv1.GetWalletRequest{CustomerIdentifier: customer(id), ProgramId: program})
	})
	if err != nil {
		return err
	}
	say(struct {
		Step         string `json:"step"`
		CustomerID   int64  `json:"customer_id,string"`
		Current      int64  `json:"current,string"`
		Redeemable   int64  `json:"redeemable,string"`
		Transferable int64  `json:"transferable,string"`
	}{"wallet", answer.Wallet.CustomerId, answer.Wallet.Current, answer.Wallet.Redeemable, answer.Wallet.Transferable})
	return nil
}

func customer(id string) *pointsv1.CustomerIdentifier {
	return &pointsv1.CustomerIdentifier{Type: pointsv1.CustomerIdentifier_ID, Value: id}
}

func say(line any) {
	if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
		log.Fatal(err)
	}
}
