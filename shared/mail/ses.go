package mail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	"github.com/aws/aws-sdk-go-v2/service/sesv2/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	gomail "github.com/wneessen/go-mail"

	"orgservice/shared/config"
)

// sesSender sends by Amazon SES. It needs the privilege ses:SendRawEmail, because it
// sends the message that a server of SMTP gets, byte for byte.
type sesSender struct{ client *sesv2.Client }

func newSES(settings config.SES) *sesSender {
	return &sesSender{sesv2.New(sesv2.Options{
		Region:       settings.Region,
		BaseEndpoint: settings.Endpoint,
		Credentials:  settings.Credentials,
	})}
}

func (s *sesSender) send(ctx context.Context, message *gomail.Msg) error {
	var raw bytes.Buffer
	if _, err := message.WriteTo(&raw); err != nil {
		return err
	}
	input := &sesv2.SendEmailInput{
		Destination: &types.Destination{},
		Content:     &types.EmailContent{Raw: &types.RawMessage{Data: raw.Bytes()}},
	}
	for _, to := range message.GetTo() {
		input.Destination.ToAddresses = append(input.Destination.ToAddresses, to.Address)
	}
	_, err := s.client.SendEmail(ctx, input)
	return sesError(err)
}

// sesError returns an error without the words of the service, but for those that say
// which addresses are not verified.
func sesError(err error) error {
	e, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return err
	}
	if strings.HasPrefix(e.ErrorMessage(), "Email address is not verified") { // it goes on with the addresses
		return errors.New("SES refuses it: an email address is not verified, the sender's or, in the sandbox, the recipient's")
	}
	status := 0
	if r, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		status = r.HTTPStatusCode()
	}
	return fmt.Errorf("SES refuses it: %s (status %d)", e.ErrorCode(), status)
}
