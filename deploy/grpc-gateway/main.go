// HTTP and JSON in front of points-grpc, for those who cannot speak gRPC. grpc-gateway is the transcoder, and makes the
// handlers from the google.api.http annotations of the protos; here stands what it is told, and nothing of the rules.
//
//	go generate ./... && go run . --server 127.0.0.1:50051 --listen 127.0.0.1:8080
package main

//go:generate buf generate

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	_ "google.golang.org/genproto/googleapis/rpc/errdetails" // so that the details of refusals can be written
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pointsv1 "points.example/gateway/gen/points/v1"
)

const (
	bodyBytesMax = 4 << 20          // JSON is longer than the 1 MiB of protobuf that the server takes
	headTimeout  = 5 * time.Second  // for the head of a request
	readTimeout  = 30 * time.Second // for all of it
	idleTimeout  = 2 * time.Minute
	drainTimeout = 20 * time.Second // the server's own default deadline is 10 s
)

// What passes to the server beside `authorization`. A signature does not: it is over the bytes of the protobuf.
var headers = map[string]bool{"X-Correlation-Id": true, "Traceparent": true, "Tracestate": true}

func main() {
	server := flag.String("server", "127.0.0.1:50051", "where points-grpc listens")
	listen := flag.String("listen", "127.0.0.1:8080", "where to listen")
	caFile := flag.String("ca-file", "", "PEM file with the CA of the server; the system's roots if unset")
	plaintext := flag.Bool("plaintext", false, "no TLS to a server on another machine, where the network encrypts")
	certificate := flag.String("certificate", "", "PEM file with the certificate of this gateway")
	key := flag.String("key", "", "PEM file with its key")
	plaintextHTTP := flag.Bool("plaintext-http", false, "HTTP without TLS on an address that is not loopback")
	flag.Parse()
	if *certificate == "" && !isLoopback(*listen) && !*plaintextHTTP {
		log.Fatal("--listen: keys travel in the open; give --certificate and --key, or --plaintext-http")
	}
	transport, err := transportTo(*server, *caFile, *plaintext)
	if err != nil {
		log.Fatal(err)
	}
	if err := run(*server, *listen, transport, *certificate, *key); err != nil {
		log.Fatal(err)
	}
}

func run(server, listen string, transport credentials.TransportCredentials, certificate, key string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	connection, err := grpc.NewClient(server, grpc.WithTransportCredentials(transport))
	if err != nil {
		return err
	}
	defer connection.Close()
	handler, err := handlers(ctx, connection)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	front := &http.Server{
		Handler:           http.MaxBytesHandler(handler, bodyBytesMax),
		ReadHeaderTimeout: headTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
	}
	ended := make(chan error, 1)
	go func() {
		if certificate != "" {
			ended <- front.ServeTLS(listener, certificate, key)
		} else {
			ended <- front.Serve(listener)
		}
	}()
	fmt.Printf("gateway: %s, to %s\n", listener.Addr(), server)
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	draining, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	return front.Shutdown(draining)
}

// The generated handlers, and /healthz, which asks the server's own health.
func handlers(ctx context.Context, connection *grpc.ClientConn) (http.Handler, error) {
	mux := runtime.NewServeMux(
		// The documented names, and the empty lists and texts that the documented answers show. What a request has and its
		// message has not is refused.
		runtime.WithMarshalerOption(runtime.MIMEWildcard, &runtime.JSONPb{
			MarshalOptions:   protojson.MarshalOptions{EmitDefaultValues: true},
			UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: false},
		}),
		runtime.SetQueryParameterParser(&knownParameters{}),
		runtime.WithIncomingHeaderMatcher(func(name string) (string, bool) { return name, headers[name] }),
		runtime.WithOutgoingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithForwardResponseOption(func(ctx context.Context, w http.ResponseWriter, _ proto.Message) error {
			tellTrailers(ctx, w)
			return nil
		}),
		runtime.WithErrorHandler(refuse),
		runtime.WithRoutingErrorHandler(refusePlace),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithHealthzEndpoint(healthpb.NewHealthClient(connection)),
	)
	// Not the lifetime of the process but of the connection ends these: calls in flight outlast the signal to stop.
	ctx = context.WithoutCancel(ctx)
	return mux, errors.Join(
		pointsv1.RegisterPointsServiceHandler(ctx, mux, connection),
		pointsv1.RegisterIssuanceServiceHandler(ctx, mux, connection),
		pointsv1.RegisterWalletServiceHandler(ctx, mux, connection),
	)
}

// Refuses parameters of a GET that the request does not have: by itself the transcoder passes over them in silence.
type knownParameters struct{ runtime.DefaultQueryParser }

func (p *knownParameters) Parse(request proto.Message, given url.Values, filter *utilities.DoubleArray) error {
	for name := range given {
		if !isField(request.ProtoReflect().Descriptor(), strings.Split(name, ".")) {
			return fmt.Errorf("there is no parameter %q", name)
		}
	}
	return p.DefaultQueryParser.Parse(request, given, filter)
}

func isField(message protoreflect.MessageDescriptor, path []string) bool {
	if message == nil {
		return false
	}
	field := message.Fields().ByTextName(path[0])
	if field == nil {
		field = message.Fields().ByJSONName(path[0])
	}
	return field != nil && (len(path) == 1 || isField(field.Message(), path[1:]))
}

// Trailers that a caller wants to see as headers: under which name the server logged the call, and when to come back.
func tellTrailers(ctx context.Context, w http.ResponseWriter) {
	told, _ := runtime.ServerMetadataFromContext(ctx)
	for _, id := range told.TrailerMD.Get("x-correlation-id") {
		w.Header().Set("X-Correlation-Id", id)
	}
	for _, pause := range told.TrailerMD.Get("grpc-retry-pushback-ms") {
		if ms, err := strconv.Atoi(pause); err == nil && ms >= 0 { // -1 is no pause: never
			w.Header().Set("Retry-After", strconv.Itoa((ms+999)/1000))
		}
	}
}

func refuse(
	ctx context.Context, mux *runtime.ServeMux, json runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error,
) {
	tellTrailers(ctx, w)
	runtime.DefaultHTTPErrorHandler(ctx, mux, json, w, r, err)
}

// A path with another verb is 405; by itself the transcoder says 501.
func refusePlace(
	ctx context.Context, mux *runtime.ServeMux, json runtime.Marshaler, w http.ResponseWriter, r *http.Request, code int,
) {
	if code != http.StatusMethodNotAllowed {
		runtime.DefaultRoutingErrorHandler(ctx, mux, json, w, r, code)
		return
	}
	runtime.HTTPError(ctx, mux, json, w, r, &runtime.HTTPStatusError{
		HTTPStatus: code, Err: status.Error(codes.Unimplemented, http.StatusText(code)),
	})
}

// TLS, but for a server on this machine, or where somebody says that the network encrypts.
func transportTo(server, caFile string, plaintext bool) (credentials.TransportCredentials, error) {
	if plaintext && caFile != "" {
		return nil, errors.New("--plaintext and --ca-file exclude each other")
	}
	if plaintext || (caFile == "" && isLoopback(server)) {
		return insecure.NewCredentials(), nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		read, err := os.ReadFile(caFile)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(read) {
			return nil, fmt.Errorf("%s: no certificate in it", caFile)
		}
	}
	return credentials.NewTLS(config), nil
}

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}
