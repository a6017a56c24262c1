"""The part of Shopify's Admin schema 2026-10 that the sandbox answers, as GraphQL SDL.

Types, fields, arguments and nullability are those of the published schema (checked by a test); enums that are only ever
answered stand as scalars.
"""

from __future__ import annotations

_PAGE = "after: String, before: String, first: Int, last: Int"
_CONNECTIONS = """
  BulkOperation  Customer  Order  LineItem  ShippingLine  OrderAdjustment  RefundLineItem  RefundShippingLine
  OrderTransaction  ShopifyPaymentsBalanceTransaction  ShopifyPaymentsDispute  ShopifyPaymentsPayout
"""
_SCALARS = """
  BigInt  BulkOperationErrorCode  BulkOperationStatus  BulkOperationUserErrorCode  CountPrecision  CountryCode
  CurrencyCode  CustomerState  DateTime  Decimal  DisputeStatus  DisputeType  OrderAdjustmentDiscrepancyReason
  OrderCancelReason  OrderDisplayFinancialStatus  OrderDisplayFulfillmentStatus  OrderTransactionKind
  OrderTransactionStatus  RefundLineItemRestockType  ShopifyPaymentsBalanceTransactionPayoutStatus
  ShopifyPaymentsDisputeReason  ShopifyPaymentsPayoutStatus  ShopifyPaymentsSourceType
  ShopifyPaymentsTransactionType  URL  UnsignedInt64
"""
_TYPES = """
schema { query: QueryRoot  mutation: Mutation }
interface Node { id: ID! }
type QueryRoot {
  bulkOperation(id: ID!): BulkOperation
  bulkOperations($PAGE, query: String, reverse: Boolean = false,
    sortKey: BulkOperationsSortKeys = CREATED_AT): BulkOperationConnection!
  currentBulkOperation(type: BulkOperationType = QUERY): BulkOperation  customer(id: ID!): Customer
  customers($PAGE, query: String, reverse: Boolean = false, sortKey: CustomerSortKeys = ID): CustomerConnection!
  node(id: ID!): Node  order(id: ID!): Order  refund(id: ID!): Refund
  orders($PAGE, query: String, reverse: Boolean = false, sortKey: OrderSortKeys = PROCESSED_AT): OrderConnection!
  ordersCount(limit: Int = 10000, query: String): Count  shop: Shop!
  shopifyPaymentsAccount: ShopifyPaymentsAccount
}
type Mutation {
  bulkOperationCancel(id: ID!): BulkOperationCancelPayload
  bulkOperationRunQuery(groupObjects: Boolean! = false, query: String!): BulkOperationRunQueryPayload
}
type Order implements Node {
  cancelReason: OrderCancelReason  cancelledAt: DateTime  closed: Boolean!  confirmed: Boolean!
  createdAt: DateTime!  currencyCode: CurrencyCode!  currentSubtotalPriceSet: MoneyBag!
  currentTotalDiscountsSet: MoneyBag!  currentTotalDutiesSet: MoneyBag  currentTotalPriceSet: MoneyBag!
  currentTotalTaxSet: MoneyBag!  customer: Customer  discountCodes: [String!]!
  displayFinancialStatus: OrderDisplayFinancialStatus  displayFulfillmentStatus: OrderDisplayFulfillmentStatus!
  edited: Boolean!  email: String  fullyPaid: Boolean!  id: ID!  legacyResourceId: UnsignedInt64!
  lineItems($PAGE, reverse: Boolean = false): LineItemConnection!  name: String!  netPaymentSet: MoneyBag!
  note: String  number: Int!  originalTotalDutiesSet: MoneyBag  originalTotalPriceSet: MoneyBag!
  paymentGatewayNames: [String!]!  presentmentCurrencyCode: CurrencyCode!  processedAt: DateTime!
  refunds(first: Int): [Refund!]!  shippingAddress: MailingAddress  shippingLine: ShippingLine
  shippingLines($PAGE, includeRemovals: Boolean = false, reverse: Boolean = false): ShippingLineConnection!
  sourceName: String  subtotalLineItemsQuantity: Int!  subtotalPriceSet: MoneyBag  tags: [String!]!
  taxExempt: Boolean!  taxLines: [TaxLine!]!  taxesIncluded: Boolean!  test: Boolean!
  totalDiscountsSet: MoneyBag  totalOutstandingSet: MoneyBag!  totalPriceSet: MoneyBag!
  totalReceivedSet: MoneyBag!  totalRefundedSet: MoneyBag!  totalRefundedShippingSet: MoneyBag!
  totalShippingPriceSet: MoneyBag!  totalTaxSet: MoneyBag  totalTipReceivedSet: MoneyBag!
  transactions(capturable: Boolean, first: Int, manuallyResolvable: Boolean): [OrderTransaction!]!
  unpaid: Boolean!  updatedAt: DateTime!
}
type LineItem implements Node {
  currentQuantity: Int!  discountAllocations: [DiscountAllocation!]!
  discountedTotalSet(withCodeDiscounts: Boolean = false): MoneyBag!  duties: [Duty!]!  id: ID!
  isGiftCard: Boolean!  name: String!  originalTotalSet: MoneyBag!  originalUnitPriceSet: MoneyBag!
  quantity: Int!  refundableQuantity: Int!  requiresShipping: Boolean!  sku: String
  taxLines(first: Int): [TaxLine!]!  taxable: Boolean!  title: String!  totalDiscountSet: MoneyBag!
  vendor: String
}
type OrderTransaction implements Node {
  amountSet: MoneyBag!  createdAt: DateTime!  fees: [TransactionFee!]!  formattedGateway: String
  gateway: String  id: ID!  kind: OrderTransactionKind!  manualPaymentGateway: Boolean!  order: Order
  parentTransaction: OrderTransaction  paymentId: String  processedAt: DateTime  status: OrderTransactionStatus!
  test: Boolean!
}
type TransactionFee implements Node {
  amount: MoneyV2!  flatFee: MoneyV2!  id: ID!  rate: Decimal!  taxAmount: MoneyV2!  type: String!
}
type Refund implements Node {
  createdAt: DateTime  duties: [RefundDuty!]  id: ID!  legacyResourceId: UnsignedInt64!  note: String
  orderAdjustments($PAGE, reverse: Boolean = false): OrderAdjustmentConnection!  processedAt: DateTime!
  refundLineItems($PAGE, reverse: Boolean = false): RefundLineItemConnection!
  refundShippingLines($PAGE, reverse: Boolean = false): RefundShippingLineConnection!
  totalRefundedSet: MoneyBag!  transactions($PAGE, reverse: Boolean = false): OrderTransactionConnection!
  updatedAt: DateTime!
}
type RefundLineItem {
  id: ID  lineItem: LineItem!  priceSet: MoneyBag!  quantity: Int!  restockType: RefundLineItemRestockType!
  restocked: Boolean!  subtotalSet: MoneyBag!  totalTaxSet: MoneyBag!
}
type RefundShippingLine implements Node {
  id: ID!  shippingLine: ShippingLine!  subtotalAmountSet: MoneyBag!  taxAmountSet: MoneyBag!
}
type RefundDuty {
  amountSet: MoneyBag!
}
type Duty implements Node {
  id: ID!  price: MoneyBag!
}
type OrderAdjustment implements Node {
  amountSet: MoneyBag!  id: ID!  reason: OrderAdjustmentDiscrepancyReason  taxAmountSet: MoneyBag!
}
type ShippingLine {
  code: String  discountAllocations: [DiscountAllocation!]!  discountedPriceSet: MoneyBag!  id: ID
  isRemoved: Boolean!  originalPriceSet: MoneyBag!  source: String  taxLines: [TaxLine!]!  title: String!
}
type TaxLine {
  channelLiable: Boolean  priceSet: MoneyBag!  rate: Float  ratePercentage: Float  source: String
  title: String!
}
type DiscountAllocation {
  allocatedAmountSet: MoneyBag!
}
type MoneyBag {
  presentmentMoney: MoneyV2!  shopMoney: MoneyV2!
}
type MoneyV2 {
  amount: Decimal!  currencyCode: CurrencyCode!
}
type MailingAddress implements Node {
  city: String  country: String  countryCodeV2: CountryCode  id: ID!  province: String  provinceCode: String
  zip: String
}
type Customer implements Node {
  createdAt: DateTime!  displayName: String!  email: String  firstName: String  id: ID!  lastName: String
  legacyResourceId: UnsignedInt64!  numberOfOrders: UnsignedInt64!  state: CustomerState!  taxExempt: Boolean!
  updatedAt: DateTime!
}
type Shop implements Node {
  currencyCode: CurrencyCode!  email: String!  ianaTimezone: String!  id: ID!  myshopifyDomain: String!
  name: String!  plan: ShopPlan!  taxesIncluded: Boolean!  timezoneOffset: String!  url: URL!
}
type ShopPlan {
  partnerDevelopment: Boolean!  publicDisplayName: String!  shopifyPlus: Boolean!
}
type Count {
  count: Int!  precision: CountPrecision!
}
type PageInfo {
  endCursor: String  hasNextPage: Boolean!  hasPreviousPage: Boolean!  startCursor: String
}
type ShopifyPaymentsAccount implements Node {
  activated: Boolean!  balance: [MoneyV2!]!
  balanceTransactions($PAGE, hideTransfers: Boolean = false, query: String, reverse: Boolean = false,
    sortKey: BalanceTransactionSortKeys = PROCESSED_AT): ShopifyPaymentsBalanceTransactionConnection!
  country: String!  defaultCurrency: CurrencyCode!
  disputes($PAGE, query: String, reverse: Boolean = false): ShopifyPaymentsDisputeConnection!  id: ID!
  payouts($PAGE, query: String, reverse: Boolean = false,
    sortKey: PayoutSortKeys = ISSUED_AT,
    transactionType: ShopifyPaymentsPayoutTransactionType): ShopifyPaymentsPayoutConnection!
}
type ShopifyPaymentsBalanceTransaction implements Node {
  adjustmentReason: String  adjustmentsOrders: [ShopifyPaymentsAdjustmentOrder!]!  amount: MoneyV2!
  associatedOrder: ShopifyPaymentsAssociatedOrder
  associatedPayout: ShopifyPaymentsBalanceTransactionAssociatedPayout!  fee: MoneyV2!  id: ID!  net: MoneyV2!
  sourceId: BigInt  sourceOrderTransactionId: BigInt  sourceType: ShopifyPaymentsSourceType  test: Boolean!
  transactionDate: DateTime!  type: ShopifyPaymentsTransactionType!
}
type ShopifyPaymentsAdjustmentOrder {
  amount: MoneyV2!  fees: MoneyV2!  link: URL!  name: String!  net: MoneyV2!  orderTransactionId: BigInt!
}
type ShopifyPaymentsAssociatedOrder {
  id: ID!  name: String!
}
type ShopifyPaymentsBalanceTransactionAssociatedPayout {
  id: ID  status: ShopifyPaymentsBalanceTransactionPayoutStatus
}
type ShopifyPaymentsPayout implements Node {
  gross: MoneyV2!  id: ID!  issuedAt: DateTime!  legacyResourceId: UnsignedInt64!  net: MoneyV2!
  status: ShopifyPaymentsPayoutStatus!  summary: ShopifyPaymentsPayoutSummary!
  transactionType: ShopifyPaymentsPayoutTransactionType!
}
type ShopifyPaymentsPayoutSummary {
  adjustmentsFee: MoneyV2!  adjustmentsGross: MoneyV2!  advanceFees: MoneyV2!  advanceGross: MoneyV2!
  chargesFee: MoneyV2!  chargesGross: MoneyV2!  refundsFee: MoneyV2!  refundsFeeGross: MoneyV2!
  reservedFundsFee: MoneyV2!  reservedFundsGross: MoneyV2!  retriedPayoutsFee: MoneyV2!
  retriedPayoutsGross: MoneyV2!  usdcRebateCreditAmount: MoneyV2!
}
type ShopifyPaymentsDispute implements Node {
  amount: MoneyV2!  evidenceDueBy: DateTime  evidenceSentOn: DateTime  finalizedOn: DateTime  id: ID!
  initiatedAt: DateTime!  legacyResourceId: UnsignedInt64!  order: Order
  reasonDetails: ShopifyPaymentsDisputeReasonDetails!  status: DisputeStatus!  type: DisputeType!
}
type ShopifyPaymentsDisputeReasonDetails {
  networkReasonCode: String  reason: ShopifyPaymentsDisputeReason!
}
type BulkOperation implements Node {
  completedAt: DateTime  createdAt: DateTime!  errorCode: BulkOperationErrorCode  fileSize: UnsignedInt64
  id: ID!  objectCount: UnsignedInt64!  partialDataUrl: URL  query: String!  rootObjectCount: UnsignedInt64!
  status: BulkOperationStatus!  type: BulkOperationType!  url: URL
}
type BulkOperationRunQueryPayload {
  bulkOperation: BulkOperation  userErrors: [BulkOperationUserError!]!
}
type BulkOperationCancelPayload {
  bulkOperation: BulkOperation  userErrors: [UserError!]!
}
type BulkOperationUserError {
  code: BulkOperationUserErrorCode  field: [String!]  message: String!
}
type UserError {
  field: [String!]  message: String!
}
enum BalanceTransactionSortKeys {
  AMOUNT  FEE  ID  NET  ORDER_NAME  PAYMENT_METHOD_NAME  PAYOUT_DATE  PAYOUT_STATUS  PROCESSED_AT
  TRANSACTION_TYPE
}
enum BulkOperationType {
  MUTATION  QUERY
}
enum BulkOperationsSortKeys {
  COMPLETED_AT  CREATED_AT
}
enum CustomerSortKeys {
  CREATED_AT  ID  LOCATION  NAME  RELEVANCE  UPDATED_AT
}
enum OrderSortKeys {
  CREATED_AT  CURRENT_TOTAL_PRICE  CUSTOMER_NAME  DESTINATION  FINANCIAL_STATUS  FULFILLMENT_STATUS  ID
  ORDER_NUMBER  PO_NUMBER  PROCESSED_AT  RELEVANCE  TOTAL_ITEMS_QUANTITY  TOTAL_PRICE  UPDATED_AT
}
enum PayoutSortKeys {
  ADJUSTMENT_GROSS  ADVANCE_GROSS  AMOUNT  CHARGE_GROSS  DUTIES_GROSS  FEE_AMOUNT  ID  ISSUED_AT  REFUND_GROSS
  SHIPPING_LABEL_GROSS  STATUS
}
enum ShopifyPaymentsPayoutTransactionType {
  DEPOSIT  WITHDRAWAL
}
"""


def sdl() -> str:
    """The schema's text: the types above, a Connection and an Edge type for each connected type, and the scalars."""
    connections = [
        f"type {name}Connection {{ edges: [{name}Edge!]!  nodes: [{name}!]!  pageInfo: PageInfo! }}\n"
        f"type {name}Edge {{ cursor: String!  node: {name}! }}"
        for name in _CONNECTIONS.split()
    ]
    scalars = [f"scalar {name}" for name in _SCALARS.split()]
    return "\n".join([_TYPES.replace("$PAGE", _PAGE), *connections, *scalars])
